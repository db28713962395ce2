from pathlib import Path

import mdtraj
import numpy as np
import pytest

from piwsl.errors import RunDirectoryError
from piwsl.md.engines.base import Energies
from piwsl.md.stop_rules import bonded_pairs
from piwsl.md.writers import THERMO_COLUMNS, ThermoWriter, TrajectoryWriter, read_frames, read_thermo, write_topology

PRECISION = {"dcd": 1e-5, "xtc": 6e-3}


def write_frames(path: Path, frames) -> None:
    writer = TrajectoryWriter(path, 100, 0.5)
    for frame in frames:
        writer.write(frame)
    writer.close()


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(size=(12, 9, 3)) * 3


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_mdtraj_opens_trajectory_and_topology(kind, frames, ethanol, tmp_path: Path):
    write_frames(tmp_path / f"t.{kind}", frames)
    write_topology(tmp_path / "topology.pdb", ethanol, bonded_pairs(ethanol))
    loaded = mdtraj.load(str(tmp_path / f"t.{kind}"), top=str(tmp_path / "topology.pdb"))
    assert np.abs(loaded.xyz * 10 - frames).max() < PRECISION[kind]
    assert [atom.element.symbol for atom in loaded.topology.atoms] == ethanol.get_chemical_symbols()
    assert loaded.topology.n_bonds == 8
    if kind == "xtc":
        assert loaded.time == pytest.approx(np.arange(1, 13) * 0.05)


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
@pytest.mark.parametrize("cut", [0, 40])
def test_a_trajectory_is_cut_and_continued(kind, cut, frames, tmp_path: Path, capfd):
    path = tmp_path / f"t.{kind}"
    write_frames(path, frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    writer = TrajectoryWriter(path, 100, 0.5, keep=7)
    writer.write(frames[11])
    writer.close()
    read = np.concatenate(list(read_frames(path, 100))) * (1 if kind == "dcd" else 10)
    assert np.abs(read - frames[[0, 1, 2, 3, 4, 5, 6, 11]]).max() < PRECISION[kind]
    assert capfd.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_too_few_frames_are_refused_and_the_file_stays(kind, frames, tmp_path: Path):
    path = tmp_path / f"t.{kind}"
    write_frames(path, frames)
    before = path.read_bytes()
    with pytest.raises(RunDirectoryError, match="holds 12 frames, the restart needs 13"):
        TrajectoryWriter(path, 100, 0.5, keep=13)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_after_a_flush_the_frames_are_in_the_file(kind, frames, tmp_path: Path):
    path = tmp_path / f"t.{kind}"
    writer = TrajectoryWriter(path, 100, 0.5)
    for frame in frames:
        writer.write(frame)
    writer.flush()
    assert sum(len(piece) for piece in read_frames(path, 100)) == 12
    writer.close()


def test_thermo_is_cut_and_continued(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    writer = ThermoWriter(path, 0.5)
    for step in (100, 200, 300, 400):
        writer.write(step, Energies(-1.0, 0.25), 300.0)
    writer.close()
    with path.open("a") as file:
        file.write("500,0.25,-1.0")  # a kill in the middle of a row
    writer = ThermoWriter(path, 0.5, keep_until=200)
    writer.write(300, Energies(-2.0, 0.5), 310.0)
    writer.close()
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(THERMO_COLUMNS)
    assert lines[1] == "100,0.05,-1.00000000,0.25000000,-0.75000000,300.000"
    assert [row[0] for row in read_thermo(path)] == ["100", "200", "300"]
