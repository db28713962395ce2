"""Every file kind with one byte changed: an error of piwsl, or the same content; never other numbers in silence."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from piwsl.analysis.reference import Reference
from piwsl.analysis.reference_statistics import read_reference_statistics
from piwsl.data.domain import TrainingDomain
from piwsl.data.formats.packed import read_packed, write_packed
from piwsl.data.frames import FrameSet
from piwsl.errors import ModelFileError, PiwslError
from piwsl.export.exported_file import load_exported
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.md.job import RunIdentity
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import RestartState, read_state, write_state
from tests.support import run_directories
from tests.support.models_for_tests import model_with_heads, trained_model
from tests.support.molecules import frame

FRAMES = FrameSet([frame("CH3CH2OH", seed=seed, labeled=True) for seed in range(5)])


def trained(folder, exports):
    save_trained(trained_model(channels=4, layers=1), folder / "model.pt")

    def read(path):
        model = load_trained(path)
        return [*model.tensors.values(), model.scale, str(model.reference_energies), model.check_frames[0].positions]

    return folder / "model.pt", read


def several_heads(folder, exports):
    save_trained(model_with_heads(channels=4, layers=1), folder / "model.pt")

    def read(path):
        model = load_trained(path)
        low = model.at_level("low")
        return [*low.tensors.values(), str(model.levels), str(low.reference_energies), low.check_frames[0].positions]

    return folder / "model.pt", read


def exported(folder, exports):
    def read(path):
        potential = load_exported(path)
        return [*potential.program.state_dict().values(), str(potential.info)]

    return exports.openmm(), read


def packed(folder, exports):
    write_packed(folder / "frames.h5", FRAMES)

    def read(path):
        names = ("species", "positions", "forces", "energy")
        return [getattr(each, name) for each in read_packed(path) for name in names]

    return folder / "frames.h5", read


def state(folder, exports):
    rng = np.random.default_rng(0)
    arrays = {"positions": rng.normal(size=(9, 3)), "velocities": rng.normal(size=(9, 3))}
    identity = RunIdentity(MDProtocol.of(engine="openmm", replicas=2), "a" * 64, "b" * 64)

    def read(path):
        found = read_state(path)
        return [*found.engine.values(), found.step, str(found.rules), str(found.identity)]

    return write_state(folder, RestartState(10, identity, arrays)), read


def statistics(folder, exports):
    shaking = run_directories.shaking(100, seed=1)
    reference = Reference.of_frames("mine", run_directories.ETHANOL.numbers, shaking, 50.0 * np.arange(100))
    reference.save_statistics(folder / "statistics.npz")

    def read(path):
        found = read_reference_statistics(path)
        measured = pickle.dumps(found.measured)
        return [found.species, found.bonds.lengths, found.start, found.frames, found.digest, measured]

    return folder / "statistics.npz", read


# A process reads each packed file.
PLACES = {trained: 1000, several_heads: 1000, exported: 1000, packed: 40, state: 1000, statistics: 300}


def same(left, right):
    return len(left) == len(right) and all(
        np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(
    "kind", [trained, several_heads, exported, packed, state, statistics], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("share", [0.02, pytest.param(1, marks=pytest.mark.slow)])
def test_a_byte_that_flips(tmp_path, exports, kind, share):
    good, read = kind(tmp_path, exports)
    content, expected = good.read_bytes(), read(good)
    places = 2 + round(share * PLACES[kind])
    damaged = tmp_path / f"state-damaged{good.suffix}"
    refused = 0
    for place in np.random.default_rng(places).choice(len(content), min(places, len(content)), replace=False):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        damaged.write_bytes(changed)
        try:
            found = read(damaged)
        except PiwslError as error:  # anything else fails the test
            refused += damaged.name in str(error) and "\n" not in str(error)
        else:
            assert same(found, expected), f"byte {place} of {len(content)}: other content in silence"
    assert refused > places // 4


@pytest.mark.slow
def test_a_compressed_member_of_another_size_than_stated(tmp_path):
    """A bomb: 1 GB of zeros in a megabyte."""
    with (
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model/data.pkl", "w", force_zip64=True) as member,
    ):
        for _ in range(1024):
            member.write(bytes(2**20))
    for read in (load_trained, load_exported):
        with pytest.raises(
            ModelFileError, match=r"bomb\.pt: damaged .*the members are larger than the size of the file allows"
        ):
            read(tmp_path / "bomb.pt")


def test_weights_that_do_not_fit(tmp_path):
    model = trained_model()
    name = next(iter(model.tensors))
    model.tensors[name] = torch.zeros(3, 2)
    save_trained(model, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="the weights do not fit the network"):
        load_trained(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"scale": float("nan")},
        {"reference_energies": {1: 1e300}},
        {"reference_energies": {400: 0.0}},
        {"dtype": "int8"},
        {"tensors": {"embedding.weight": "text"}},
        {"tensors": ["list"]},
        {"training": ["list"]},
    ],
)
def test_a_trained_file_of_wrong_types(tmp_path, change):
    content = trained_model()
    for name, value in change.items():
        object.__setattr__(content, name, value)
    if "reference_energies" in change:
        object.__setattr__(content, "check_frames", [])
    save_trained(content, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"model\.pt: (incomplete or damaged description|damaged)"):
        load_trained(tmp_path / "model.pt")


def test_the_domain_survives_the_file(tmp_path):
    model = trained_model()
    domain = TrainingDomain.of(FRAMES, 4.0, "GFN2-xTB")
    object.__setattr__(model, "domain", domain)
    save_trained(model, tmp_path / "model.pt")
    assert load_trained(tmp_path / "model.pt").domain == domain
