"""Differences of energies against the work of the forces: units of the two labels, and energies per atom."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from piwsl.data.energy_work import compare_energies_and_work
from piwsl.data.frames import FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.systems import RESOURCES
from piwsl.units import BOHR, HARTREE, KCAL_PER_MOL
from tests.support.emt import labeled


@pytest.fixture(scope="module")
def turned_molecules():
    frames = []
    for seed in range(24):
        atoms = molecule("CH3OH")
        atoms.rattle(0.04, seed=seed)
        atoms.positions = Rotation.random(random_state=seed).apply(atoms.positions) + seed
        frames.append(labeled(atoms))
    return frames


@pytest.fixture(scope="module")
def wrapped_cells():
    frames = []
    for seed in range(24):
        atoms = bulk("Cu", cubic=True) * (1, 1, 2)
        atoms.rattle(0.05, seed=seed)
        atoms.wrap()
        frames.append(labeled(atoms))
    return frames


def warnings(frames):
    return [text for text in inspect_frames(FrameSet(frames)).warnings if "work of the forces" in text]


@pytest.mark.parametrize("kind", ["turned_molecules", "wrapped_cells"])
def test_the_work_is_that_of_turned_and_wrapped_structures(kind, request):
    frames = request.getfixturevalue(kind)
    found = compare_energies_and_work(FrameSet(frames))
    assert found is not None
    assert found.pairs >= 10
    assert found.correlation > 0.98
    assert found.ratio == pytest.approx(1.0, abs=0.1)
    assert warnings(frames) == []


@pytest.mark.parametrize("kind", ["turned_molecules", "wrapped_cells"])
@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        (1 / KCAL_PER_MOL, 1.0),  # energies in kcal/mol
        (1 / HARTREE, 1.0),  # energies in hartree
        (1.0, BOHR / HARTREE),  # forces in hartree/bohr
        (1 / HARTREE, BOHR / HARTREE),  # as programs of quantum chemistry print both
        (1 / 8, 1.0),  # energies per atom
    ],
)
def test_labels_in_different_units_are_reported(kind, energy, forces, request):
    frames = [
        replace(frame, energy=energy * frame.energy, forces=forces * frame.forces)
        for frame in request.getfixturevalue(kind)
    ]
    (text,) = warnings(frames)
    assert "check that energies and forces are in units that belong together" in text
    stated = float(text.split("are ")[1].split(" times")[0])
    assert stated == pytest.approx(energy / forces, rel=0.1)


def test_labels_that_do_not_belong_to_the_structures_give_no_ratio(turned_molecules):
    rng = np.random.default_rng(0)
    frames = [replace(frame, energy=float(rng.normal())) for frame in turned_molecules]
    assert warnings(frames) == []
    assert warnings(turned_molecules[:5]) == []
    assert compare_energies_and_work(FrameSet([frame.without_labels() for frame in turned_molecules])) is None


@pytest.mark.parametrize("name", ["aspirin_train.npz", "aspirin_test.npz"])
def test_hot_molecules_whose_methyl_groups_turn(name):
    frames = read_frames(RESOURCES / name)
    found = compare_energies_and_work(frames)
    assert found is not None
    assert found.ratio == pytest.approx(1.0, abs=0.15)
    assert warnings(list(frames)) == []
    assert "0.0" in warnings([replace(frame, energy=frame.energy / 21) for frame in frames])[0]


@pytest.mark.parametrize(
    ("name", "units"), [("rmd17_aspirin.npz", "kcal/mol"), ("aspirin_ccsd.npz", "kcal/mol"), ("tio2.extxyz.gz", None)]
)
def test_published_data(real_data, name, units):
    found = compare_energies_and_work(read_frames(real_data / name, units))
    assert found is not None
    assert found.correlation > 0.8
    assert found.ratio == pytest.approx(1.0, abs=0.15)


def test_gradients():
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True) * (1, 1, 2)
        atoms.rattle(0.05, seed=seed)
        frames.append(labeled(atoms))
    work = compare_energies_and_work(FrameSet([replace(frame, forces=-frame.forces) for frame in frames]))
    assert "the energy increases along the forces" in work.warnings()[0]
