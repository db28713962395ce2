"""Labels of an ensemble of models: means, with the spread of the members."""

import json

import numpy as np
import pytest

from piwsl import PiwslCalculator, label, load_model, sample
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, ModelFileError, RunDirectoryError
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [trained_file(folder / f"{seed}.pt", seed=seed, **TINY) for seed in (1, 2)]


@pytest.fixture(scope="module")
def job(members, tmp_path_factory):
    """The directory of a finished labeling job."""
    output = tmp_path_factory.mktemp("job")
    label(STRUCTURES, method_of(members), output=output)
    return output


@pytest.fixture(scope="module")
def directory(members, tmp_path_factory):
    """An ensemble as `piwsl train --seeds` writes it."""
    folder = tmp_path_factory.mktemp("ensemble")
    for seed, member in enumerate(members, start=1):
        (folder / f"seed-{seed}").mkdir()
        (folder / f"seed-{seed}" / "model.pt").write_bytes(member.read_bytes())
    (folder / "ensemble.json").write_text(json.dumps({"members": [{"directory": f"seed-{s}"} for s in (1, 2)]}))
    return folder


TINY = {"dtype": "float64", "channels": 4, "layers": 1, "frames": ("H2O",)}
STRUCTURES = [frame("CH3CH2OH", seed=1), frame("H2O", seed=2)]


def expected(members):
    """Means and standard deviations from the models one by one."""
    each = [load_model(member).predict(STRUCTURES) for member in members]
    for index in range(len(STRUCTURES)):
        energies = np.array([one[index].energy for one in each])
        forces = np.array([one[index].forces for one in each])
        spread = np.linalg.norm(forces.std(0, ddof=1), axis=1)
        yield energies.mean(), forces.mean(0), energies.std(ddof=1), spread


def method_of(members):
    return "model:" + ",".join(map(str, members))


def check(labeled, members):
    for one, (energy, forces, energy_spread, force_spread) in zip(labeled, expected(members), strict=True):
        assert one.energy == pytest.approx(energy, abs=1e-4)
        assert np.allclose(one.forces, forces, atol=1e-4)
        assert one.energy_spread == pytest.approx(energy_spread, abs=1e-4)
        assert np.allclose(one.force_spread, force_spread, atol=1e-4)


@pytest.mark.slow
def test_files_and_the_directory_of_an_ensemble(tmp_path, members, directory, job):
    check(label(STRUCTURES, f"model:{directory}", output=tmp_path / "directory"), members)
    check(label(STRUCTURES, method_of(members), output=job), members)  # a finished job reads what is stored
    plan = json.loads((job / "plan.json").read_text())
    assert plan["model_sha256"].count(",") == 1


@pytest.mark.slow
def test_a_single_model_has_no_spread_and_another_one_is_another_job(tmp_path, members):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(members[0].read_bytes())
    labeled = label(STRUCTURES, f"model:{copy}", output=tmp_path / "job")
    assert not any(one.has_spread for one in labeled)
    copy.write_bytes(members[1].read_bytes())
    with pytest.raises(RunDirectoryError, match="model_sha256"):
        label(STRUCTURES, f"model:{copy}", output=tmp_path / "job")


@pytest.mark.slow
def test_the_calculator_returns_both_standard_deviations(members, directory):
    atoms = STRUCTURES[0].atoms()
    atoms.calc = PiwslCalculator(members)
    energy, forces, energy_spread, force_spread = next(expected(members))
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
    assert atoms.calc.results["energy_std"] == pytest.approx(energy_spread, abs=1e-4)
    assert np.allclose(np.linalg.norm(atoms.calc.results["forces_std"], axis=1), force_spread, atol=1e-4)
    atoms.calc = PiwslCalculator(directory)
    assert np.allclose(atoms.get_forces(), forces, atol=1e-4)


@pytest.mark.slow
def test_sampled_frames_keep_the_spread(tmp_path, members):
    calm = {"temperature": 1.0, "force_tolerance": 1e3, "steps": 8, "equilibration_steps": 0, "chunk_steps": 4}
    frames = sample(
        STRUCTURES[1],
        method_of(members),
        output=tmp_path / "sampled",
        trajectories=1,
        frame_interval=4,
        position_interval=4,
        **calm,
    )
    assert len(frames) == 2
    assert frames.census.has_spread.all()
    assert all((one.force_spread > 0).any() for one in frames)


@pytest.mark.slow
def test_conversion_keeps_the_spread(tmp_path, job):
    for source, target in ((job / "frames.xyz", tmp_path / "a.h5"), (tmp_path / "a.h5", tmp_path / "b.extxyz")):
        write_frames(source, target)
    for one, other in zip(read_frames(tmp_path / "b.extxyz"), read_frames(job / "frames.xyz"), strict=True):
        assert np.allclose(one.force_spread, other.force_spread, atol=1e-7)


def test_members_that_do_not_fit(tmp_path, members):
    other = trained_file(tmp_path / "other.pt", cutoff=3.0, **TINY)
    with pytest.raises(ConfigError, match="differ in cutoff"):
        label(STRUCTURES, method_of([members[0], other]), output=tmp_path / "job")
    with pytest.raises(ModelFileError, match="no such file"):
        label(STRUCTURES, method_of([members[0], tmp_path / "missing.pt"]), output=tmp_path / "job")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunDirectoryError, match="no finished ensemble"):
        label(STRUCTURES, f"model:{tmp_path / 'empty'}", output=tmp_path / "job")
