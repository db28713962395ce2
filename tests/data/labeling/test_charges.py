"""A structure that states its charge and spin is labeled with them."""

from dataclasses import replace

import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.labeling.dynamics import SamplingPlan, sample_and_label
from piwsl.data.labeling.single_point import Failure, single_point
from piwsl.data.labeling.structures import LabelingPlan, label_frames
from piwsl.data.read import read_frames
from tests.support.molecules import frame

WATER = frame("H2O")
CATION = replace(WATER, charge=1.0, unpaired_electrons=1.0)


def energy(method, options, structure=WATER):
    atoms = replace(structure, charge=float("nan"), unpaired_electrons=float("nan")).atoms()
    atoms.calc = reference_calculator(method, options)
    return float(atoms.get_potential_energy())


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gfn2-xtb", {"charge": 1, "multiplicity": 2}),
        pytest.param("pyscf:hf/sto-3g", {"charge": 1, "spin": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_built_in_methods_compute_the_stated_charge(method, options):
    found = single_point(method, {}, CATION)
    assert found.energy == pytest.approx(energy(method, options), abs=1e-6)
    assert found.energy > energy(method, {}) + 3.0
    assert single_point(method, options, CATION).energy == found.energy


def test_an_option_that_contradicts_the_structure_is_a_failure():
    found = single_point("gfn2-xtb", {"charge": 0}, CATION)
    assert isinstance(found, Failure)
    assert found.reason == (
        "the structure states charge +1, 1 unpaired electron, but the calculator option charge is 0: remove one of them"
    )


def test_options_alone_still_count():
    assert single_point("gfn2-xtb", {"charge": 1, "multiplicity": 2}, WATER).energy == pytest.approx(
        single_point("gfn2-xtb", {}, CATION).energy, abs=1e-6
    )


@pytest.mark.slow
def test_labeled_frames_keep_the_charge_and_other_charges_are_another_job(tmp_path):
    done = label_frames(FrameSet([WATER, CATION]), "gfn2-xtb", tmp_path / "labels")
    neutral, charged = read_frames(done.file)
    assert (charged.charge, charged.unpaired_electrons) == (1.0, 1.0)
    assert charged.energy > neutral.energy + 3.0
    plans = [LabelingPlan.of([one], "gfn2-xtb").structures for one in (WATER, CATION)]
    assert plans[0] != plans[1]


@pytest.mark.slow
def test_sampled_frames_have_the_charge_of_their_start(tmp_path):
    plan = SamplingPlan(
        trajectories=1, steps=4, equilibration_steps=2, chunk_steps=2, frame_interval=2, position_interval=2
    )
    frames = read_frames(sample_and_label(CATION.atoms(), plan, tmp_path / "job") / "frames.npz")
    assert [one.charge for one in frames] == [1.0, 1.0]
    assert frames[0].energy > energy("gfn2-xtb", {}, frames[0]) + 3.0
