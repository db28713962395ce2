import json
import os

import numpy as np
import pytest

from piwsl.data.structure_file import load_structure
from piwsl.errors import RunDirectoryError
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import (
    RestartState,
    RunIdentity,
    newest_states,
    read_state,
    state_files,
    structure_sha256,
    write_state,
)
from piwsl.md.run_directory import write_structure
from piwsl.md.structure import normalized
from piwsl.runs.files import arrays_sha256

IDENTITY = RunIdentity(MDProtocol.of(engine="ase"), "model", "structure")
GENERATOR = json.dumps(np.random.default_rng(3).bit_generator.state)


def state(step: int) -> RestartState:
    engine = {
        "positions": np.full((3, 3), float(step % 1000)),
        "momenta": np.zeros((3, 3)),
        "cell": np.zeros((3, 3)),
        "generator": np.array(GENERATOR),
    }
    return RestartState(step, IDENTITY, engine, {"initial energy": 1.5}, "2026-01-01T00:00:00+00:00", 1.5)


def test_a_state_survives_its_file_and_two_are_kept(tmp_path):
    for step in (0, 1000, 2000, 12000):
        write_state(tmp_path, state(step))
    assert [path.name for path in state_files(tmp_path)] == ["state-000012000.npz", "state-000002000.npz"]
    found, damaged = newest_states({0: tmp_path})
    read = found[0]
    assert damaged == []
    assert (read.step, read.identity, read.started, read.wall_seconds) == (12000, IDENTITY, state(0).started, 1.5)
    assert np.array_equal(read.engine["positions"], state(12000).engine["positions"])
    assert str(read.engine["generator"]) == GENERATOR


def test_a_half_cut_state_falls_back_to_the_one_before(tmp_path):
    write_state(tmp_path, state(1000))
    newest = write_state(tmp_path, state(2000))
    newest.write_bytes(newest.read_bytes()[:-200])
    found, damaged = newest_states({0: tmp_path})
    read = found[0]
    assert read.step == 1000
    assert "state-000002000.npz: damaged" in damaged[0]


def test_a_changed_number_is_noticed(tmp_path):
    path = write_state(tmp_path, state(1000))
    with np.load(path) as file:
        arrays = dict(file)
    arrays["engine.positions"][1, 1] += 1e-9
    np.savez(path, **arrays)
    with pytest.raises(RunDirectoryError, match="the checksum differs"):
        read_state(path)
    with pytest.raises(RunDirectoryError, match="no restart state"):
        newest_states({0: tmp_path})


def _without(path, name):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key not in (name, "checksum")}
    np.savez(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


def _with(path, **members):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "checksum"}
    arrays |= {f"engine.{name}": np.array(value) for name, value in members.items()}
    np.savez(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


def _described(path, **changes):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "checksum"}
    arrays["description"] = np.array(json.dumps({**json.loads(str(arrays["description"])), **changes}))
    np.savez(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_bytes(b"x" * 1000),
    "flipped": lambda path: path.write_bytes(bytes(byte ^ 255 for byte in path.read_bytes())),
    "compressed data": lambda path: path.write_bytes(_flipped(path.read_bytes(), 100)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "no description": lambda path: _without(path, "description"),
    "a step that is a list": lambda path: _described(path, step=[1]),
    "rules that are a number": lambda path: _described(path, rules=3),
    "an unknown option": lambda path: _described(path, protocol={"nonsense": 1}),
    "a protocol that is text": lambda path: _described(path, protocol="nonsense"),
    "another step": lambda path: _described(path, step=7),
    "a rule that is no number": lambda path: _described(path, rules={"initial energy": float("nan")}),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "no positions": lambda path: _without(path, "engine.positions"),
    "no momenta": lambda path: _without(path, "engine.momenta"),
    "no cell": lambda path: _without(path, "engine.cell"),
    "no generator": lambda path: _without(path, "engine.generator"),
    "positions that are not finite": lambda path: _with(path, positions=np.full((3, 3), np.nan)),
    "a cell that is not finite": lambda path: _with(path, cell=np.full((3, 3), np.inf)),
    "momenta of other atoms": lambda path: _with(path, momenta=np.zeros((4, 3))),
    "all arrays of other atoms": lambda path: _with(path, positions=np.zeros((4, 3)), momenta=np.zeros((4, 3))),
    "momenta that are text": lambda path: _with(path, momenta="nonsense"),
    "momenta that are complex": lambda path: _with(path, momenta=np.zeros((3, 3), dtype=complex)),
    "a generator that is no JSON": lambda path: _with(path, generator="nonsense"),
    "a generator of another kind": lambda path: _with(path, generator='{"a": 1}'),
    "a generator that is a number": lambda path: _with(path, generator=3.0),
}


def _flipped(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_falls_back_to_the_state_before(damage, tmp_path):
    write_state(tmp_path, state(1000))
    DAMAGES[damage](write_state(tmp_path, state(2000)))
    found, damaged = newest_states({0: tmp_path}, atoms=3)
    assert found[0].step == 1000
    assert "state-000002000.npz: damaged" in damaged[0]
    write_state(tmp_path, state(2000))  # replaces whatever was in this place
    assert newest_states({0: tmp_path}, atoms=3)[0][0].step == 2000
    write_state(tmp_path, state(3000))
    assert len(state_files(tmp_path)) == 2


@pytest.mark.slow
def test_every_flipped_byte_is_noticed(tmp_path):
    content = write_state(tmp_path, state(1000)).read_bytes()
    unseen = []
    for place in range(0, len(content), 7):
        (tmp_path / "state-000001000.npz").write_bytes(_flipped(content, place))
        try:
            read = read_state(tmp_path / "state-000001000.npz")
        except RunDirectoryError:
            continue
        same = np.array_equal(read.engine["positions"], state(1000).engine["positions"])
        unseen += [] if same and read.step == 1000 else [place]
    assert not unseen  # fields of the archive that carry no content may differ


def test_states_of_more_digits_are_newer(tmp_path):
    for step in (999_999_999, 1_000_000_000):
        write_state(tmp_path, state(step))
    assert newest_states({0: tmp_path})[0][0].step == 1_000_000_000


def test_no_state_at_all(tmp_path):
    with pytest.raises(RunDirectoryError, match="no restart state: start a new run with force=True"):
        newest_states({0: tmp_path})


def test_what_changed_is_listed():
    other = RunIdentity(MDProtocol.of(engine="ase", seed=2, steps=5), "m" * 64, "structure")
    assert IDENTITY.differences(other) == ["seed: 0 -> 2", f"model: sha256 model -> {'m' * 12}"]


def test_a_structure_keeps_its_hash_through_its_file(ethanol, tmp_path):
    ethanol.rattle(0.1, seed=3)
    masses = ethanol.get_masses()
    masses[3] = 2.014
    ethanol.set_masses(masses)
    clean = normalized(ethanol)
    write_structure(tmp_path / "start.extxyz", clean)
    again = normalized(load_structure(tmp_path / "start.extxyz"))
    assert structure_sha256(again) == structure_sha256(clean)
    ethanol.positions[0, 0] += 1e-6
    assert structure_sha256(normalized(ethanol)) != structure_sha256(clean)


def test_replicas_go_on_from_a_step_that_all_have(tmp_path):
    for number, steps in ((0, (1000, 2000)), (3, (0, 1000))):
        (tmp_path / str(number)).mkdir()
        for step in steps:
            write_state(tmp_path / str(number), state(step))
    directories = {number: tmp_path / str(number) for number in (0, 3)}
    found, damaged = newest_states(directories)
    assert {number: one.step for number, one in found.items()} == {0: 1000, 3: 1000}
    assert damaged == []
    path = state_files(directories[0])[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunDirectoryError, match=r"no restart state; .*state-000001000\.npz: damaged"):
        newest_states(directories)
