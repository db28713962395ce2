"""The pair that is closest relative to the limit of its elements."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from piwsl.structures.cells import periodic_directions
from piwsl.structures.close_pairs import ClosePairs
from piwsl.typing import MAX_ATOMIC_NUMBER


def limits_of(**pairs):
    limits = np.zeros((MAX_ATOMIC_NUMBER + 1, MAX_ATOMIC_NUMBER + 1))
    for pair, limit in pairs.items():
        first, second = Atoms(pair).numbers
        limits[first, second] = limits[second, first] = limit
    return limits


def search_in(atoms, limits, copies=1):
    return ClosePairs(atoms.numbers, periodic_directions(atoms), limits, copies)


@pytest.mark.parametrize("apart", [0.0, 40.0])
def test_the_pair_far_below_its_limit(apart):
    """In a molecule with all pairs, and in a large one with a neighbor search."""
    atoms = molecule("H2O")
    if apart:
        for index in range(1, 110):
            other = molecule("H2O")
            other.positions += [index * apart, 0, 0]
            atoms += other
    search = search_in(atoms, limits_of(OH=1.0, H2=1.52))
    first, second, distance = search(atoms.positions, None)
    assert distance == pytest.approx(atoms.get_distance(first, second))
    assert set(atoms.numbers[[first, second]]) == {1, 8}
    search.leave_out(first, second)
    assert search(atoms.positions, None) is None
    assert search_in(atoms, limits_of(OH=0.9))(atoms.positions, None) is None
    assert search_in(atoms, limits_of())(atoms.positions, None) is None


def test_images_across_the_boundary_of_a_cell():
    copper = bulk("Cu", cubic=True)
    copper.positions[0] -= 0.4
    found = search_in(copper, limits_of(Cu2=2.5))(copper.positions, copper.cell.array)
    assert found[2] == pytest.approx(min(copper.get_distances(0, [1, 2, 3], mic=True)))
    assert search_in(copper, limits_of(Cu2=1.5))(copper.positions, copper.cell.array) is None


def test_copies_may_overlap():
    atoms = molecule("H2O") + molecule("H2O")
    assert search_in(atoms, limits_of(OH=0.9), copies=2)(atoms.positions, None) is None
    assert search_in(atoms, limits_of(OH=0.9))(atoms.positions, None) is None
    assert search_in(atoms, limits_of(O2=0.9))(atoms.positions, None) == (0, 3, 0.0)
    assert search_in(atoms, limits_of(O2=0.9), copies=2)(atoms.positions, None) is None
