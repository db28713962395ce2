import numpy as np
import pytest

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.reference_energies import atom_energies, fit_reference_energies, isolated_atoms
from piwsl.data.split import random_split
from piwsl.errors import DataError


def test_parts_are_disjoint_and_reproducible():
    split = random_split(1000, 200, 100, 300, seed=5)
    everything = split.train + split.validation + split.test
    assert (len(split.train), len(split.validation), len(split.test)) == (200, 100, 300)
    assert len(set(everything)) == 600
    assert split == random_split(1000, 200, 100, 300, seed=5)
    assert split != random_split(1000, 200, 100, 300, seed=6)


def test_test_frames_are_the_same_for_every_training_size():
    assert random_split(1000, 50, 100, 300, 0).test == random_split(1000, 500, 100, 300, 0).test


def test_validation_of_huge_sets_has_a_bound():
    assert len(random_split(5000, None, None, None, 0).validation) == 500
    assert len(random_split(100_000, None, None, None, 0).validation) == 2000
    assert len(random_split(100_000, None, 9000, None, 0).validation) == 9000


def test_defaults():
    split = random_split(2000, None, None, None, 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (1800, 200, 0)
    assert len(random_split(2000, 50, None, None, 0).validation) == 100


@pytest.mark.parametrize("sizes", [(100, 1, 0), (90, 20, 0), (None, 50, 60)])
def test_impossible_sizes(sizes):
    with pytest.raises(DataError, match="choose smaller"):
        random_split(100, *sizes, seed=0)


def make(species, energy):
    return Frame(np.array(species), np.zeros((len(species), 3)), energy, np.full((len(species), 3), np.nan))


def test_exact_energies_are_found():
    truth = {1: -13.6, 6: -1030.0, 8: -2042.0}
    compositions = ([1, 1, 8], [6, 1, 1, 1, 1], [6, 8], [6, 8, 8, 1, 1], [1, 1])
    frames = FrameSet([make(s, sum(truth[z] for z in s)) for s in compositions])
    assert fit_reference_energies(frames, [1, 6, 8]) == pytest.approx(truth, abs=1e-8)


def test_one_composition_still_gives_the_right_sum():
    frames = FrameSet([make([8, 1, 1], -2070.0), make([8, 1, 1], -2071.0), make([8, 1, 1], np.nan)])
    fitted = fit_reference_energies(frames, [1, 8])
    assert fitted[8] + 2 * fitted[1] == pytest.approx(-2070.5, abs=1e-8)


def test_without_energies_the_references_are_zero():
    assert fit_reference_energies(FrameSet([make([1, 1], np.nan)]), [1]) == {1: 0.0}


def test_energies_of_single_atoms_are_kept():
    truth = {1: -13.6, 6: -1030.0, 8: -2042.0}
    bound = [([1, 1, 8], -10.0), ([6, 1, 1, 1, 1], -18.0)]
    frames = FrameSet([make(s, sum(truth[z] for z in s) + binding) for s, binding in bound])
    fitted = fit_reference_energies(frames, [1, 6, 8], {1: -13.6, 8: -2042.0, 92: -1.0})
    assert (fitted[1], fitted[8]) == (-13.6, -2042.0)
    assert fitted[6] == pytest.approx(-1030.0 - 18.0)
    assert fit_reference_energies(frames, [1, 6, 8], truth) == truth


def test_single_atoms_are_found():
    cell = Frame(np.array([1]), np.zeros((1, 3)), -1.0, np.zeros((1, 3)), 3 * np.eye(3), (True, True, True))
    frames = FrameSet([make([1, 1], -31.0), make([1], -13.5), cell, make([8], np.nan), make([1], -13.6)])
    assert isolated_atoms(frames, 5.0).tolist() == [1, 4]
    assert atom_energies(frames.select([1, 4])) == {1: -13.6}


@pytest.mark.parametrize(
    ("cell", "pbc", "cutoff", "isolated"),
    [
        (12 * np.eye(3), (True, True, True), 5.0, True),
        (12 * np.eye(3), (True, True, True), 12.5, False),
        (np.diag([12.0, 12.0, 0.0]), (True, True, False), 5.0, True),
        (np.diag([12.0, 4.0, 12.0]), (True, True, True), 5.0, False),
        ([[12.0, 0, 0], [11.0, 4.0, 0], [0, 0, 12.0]], (True, True, True), 5.0, False),  # sheared: an image at 4.1 A
    ],
)
def test_an_atom_in_a_box_is_isolated_if_its_images_are_beyond_the_cutoff(cell, pbc, cutoff, isolated):
    atom = Frame(np.array([1]), np.zeros((1, 3)), -13.6, np.zeros((1, 3)), np.array(cell), pbc)
    assert isolated_atoms(FrameSet([make([1, 1], -31.0), atom]), cutoff).tolist() == ([1] if isolated else [])
