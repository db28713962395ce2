"""Reference dynamics with real GFN2-xTB."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.labeling.dynamics import SamplingPlan, sample_and_label
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.runs.executors import LocalProcesses, Outcome
from tests.support.executors import HERE

PLAN = SamplingPlan(
    trajectories=2, steps=40, equilibration_steps=20, frame_interval=10, position_interval=5, chunk_steps=20, seed=3
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    calls = []
    output = tmp_path_factory.mktemp("label") / "water"
    sample_and_label(molecule("H2O"), PLAN, output, LocalProcesses(2), progress=lambda *a: calls.append(a))
    return output, calls


@pytest.mark.slow
def test_frames_carry_the_labels_of_the_method(job):
    output, calls = job
    frames = read_frames(output / "frames.npz")
    assert len(frames) == 8
    atoms = frames[5].atoms()
    atoms.calc = reference_calculator("gfn2-xtb")
    assert frames[5].energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    assert np.allclose(frames[5].forces, atoms.get_forces(), atol=1e-3)
    trajectory = np.load(output / "trajectory.npz")
    assert trajectory["coords"].shape == (16, 3, 3)
    assert float(trajectory["timestep"]) == 2.5
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_damaged_chunk_is_one_line_and_can_be_computed_again(job, tmp_path, chunk):
    output, copy = job[0], tmp_path / "job"
    shutil.copytree(output, copy, ignore=shutil.ignore_patterns(".lock", "frames.npz"))
    damaged = copy / "trajectory-01" / f"chunk-{chunk:04d}.npz"
    with np.load(damaged) as chunk_file:
        arrays = dict(chunk_file)
    arrays["energy"][0] += 0.1
    np.savez(damaged, **arrays)
    with pytest.raises(DataError, match=rf"{damaged.name}: damaged \(the checksum differs\): remove it"):
        sample_and_label(molecule("H2O"), PLAN, copy, HERE)
    damaged.unlink()
    sample_and_label(molecule("H2O"), PLAN, copy, HERE)
    with np.load(output / "frames.npz") as one, np.load(copy / "frames.npz") as two:
        assert all(np.array_equal(one[key], two[key]) for key in one.files)


@pytest.mark.slow
def test_trajectories_differ(job):
    frames = read_frames(job[0] / "frames.npz")
    assert not np.allclose(frames[0].positions, frames[4].positions, atol=1e-3)


@pytest.mark.slow
def test_an_interrupted_job_goes_on_as_if_nothing_had_been(job, tmp_path):
    output, _ = job
    resumed = tmp_path / "resumed"
    for source in sorted(output.rglob("*")):
        keep = source.name != "chunk-0002.npz" and source.name not in ("frames.npz", "trajectory.npz", ".lock")
        if source.is_file() and keep:
            target = resumed / source.relative_to(output)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    plan = json.loads((resumed / "plan.json").read_text())
    assert plan.pop("options") == {}  # as version 0.1.0 wrote it
    (resumed / "plan.json").write_text(json.dumps(plan))
    sample_and_label(molecule("H2O"), PLAN, resumed)
    with np.load(output / "frames.npz") as one, np.load(resumed / "frames.npz") as two:
        for key in one.files:
            assert np.array_equal(one[key], two[key]), key


class Dying:
    """Processes that die."""

    def run(self, function, tasks, waiting=None):
        yield Outcome(1, died="its process died")


@pytest.mark.slow
def test_a_process_that_dies(job):
    with pytest.raises(DataError, match="trajectory 1: its process died; its finished chunks are kept"):
        sample_and_label(molecule("H2O"), PLAN, job[0], Dying())


@pytest.mark.slow
def test_another_plan_is_refused(job):
    with pytest.raises(RunDirectoryError, match="another labeling job"):
        sample_and_label(molecule("H2O"), replace(PLAN, seed=4), job[0])
    with pytest.raises(RunDirectoryError, match=r"another labeling job \(options\)"):
        sample_and_label(molecule("H2O"), replace(PLAN, options={"charge": 1}), job[0])
    assert json.loads((job[0] / "plan.json").read_text())["seed"] == 3


@pytest.mark.parametrize("change", [{"steps": 0}, {"steps": 30}, {"frame_interval": 7}])
def test_bad_plans(change):
    with pytest.raises(ConfigError):
        replace(PLAN, **change)


def test_unknown_method():
    with pytest.raises(ConfigError, match="gfn2-xtb"):
        reference_calculator("b3lyp")


EMT_PLAN = replace(
    PLAN, method="ase.calculators.emt:EMT", trajectories=1, steps=20, equilibration_steps=0, force_tolerance=10.0
)


def test_a_periodic_structure_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"frames.npz has no cell, so that only molecules can be sampled"):
        sample_and_label(bulk("Cu", cubic=True), EMT_PLAN, tmp_path / "a", HERE)
    assert not list(tmp_path.iterdir())


def test_another_structure_is_another_job(tmp_path):
    sample_and_label(molecule("H2O"), EMT_PLAN, tmp_path / "a", HERE)
    sample_and_label(molecule("H2O"), EMT_PLAN, tmp_path / "a", HERE)
    heavy = molecule("H2O")
    heavy.set_masses([16.0, 2.0, 2.0])
    for other in (molecule("CH4"), heavy):
        with pytest.raises(RunDirectoryError, match=r"another labeling job \(structure\)"):
            sample_and_label(other, EMT_PLAN, tmp_path / "a", HERE)


def test_fixed_atoms_stay_and_have_forces(tmp_path):
    start = molecule("H2O")
    start.set_constraint(FixAtoms([1]))
    frames = read_frames(sample_and_label(start, EMT_PLAN, tmp_path / "a", HERE) / "frames.npz")
    assert np.ptp([frame.positions[1] for frame in frames], axis=0).max() == 0
    for frame in frames:
        atoms = frame.atoms()
        atoms.calc = EMT()
        assert np.allclose(frame.forces, atoms.get_forces(), atol=1e-4)
    start.set_constraint(FixBondLength(0, 1))
    with pytest.raises(DataError, match=r"constraint FixBondLengths? is not supported"):
        sample_and_label(start, EMT_PLAN, tmp_path / "b", HERE)


def test_a_job_that_was_killed_before_its_first_chunk(tmp_path):
    (tmp_path / "a").mkdir()
    begun = sample_and_label(molecule("H2O"), EMT_PLAN, tmp_path / "b", HERE)
    (tmp_path / "a" / "plan.json").write_bytes((begun / "plan.json").read_bytes())  # killed before it wrote more
    made = sample_and_label(molecule("H2O"), EMT_PLAN, tmp_path / "a", HERE)
    assert (made / "frames.npz").read_bytes() == (begun / "frames.npz").read_bytes()


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    output = sample_and_label(molecule("H2O"), EMT_PLAN, tmp_path / "a", HERE)
    left = output / "trajectory-00" / ".chunk-0007.npz.ab12cd34.tmp"
    left.mkdir()
    (left / "lock").touch()
    sample_and_label(molecule("H2O"), EMT_PLAN, output, HERE)
    assert not left.exists()
