"""Structures for the first labels without a model."""

import networkx
import numpy as np
import pytest
from ase.build import bulk, molecule

from piwsl.data.systems import named_system
from piwsl.learning.first_structures import first_structures, rotatable_bonds
from piwsl.structures.bonds import bonded_pairs


def test_bonds_in_rings_and_bonds_of_single_atoms_do_not_rotate():
    assert rotatable_bonds(molecule("C6H6")) == []
    assert rotatable_bonds(molecule("CH4")) == []
    assert rotatable_bonds(molecule("H2O")) == []
    ethanol = molecule("CH3CH2OH")
    found = {tuple(sorted(ethanol.symbols[[first, second]])) for first, second, _ in rotatable_bonds(ethanol)}
    assert found == {("C", "C"), ("C", "O")}
    assert len(rotatable_bonds(named_system("aspirin").structure)) == 5


def test_the_smaller_part_rotates():
    for first, second, moving in rotatable_bonds(named_system("aspirin").structure):
        assert second in moving
        assert first not in moving
        assert 2 <= len(moving) <= 10


@pytest.mark.parametrize("temperature", [300.0, 1000.0])
def test_molecules_stay_whole_and_differ(temperature):
    aspirin = named_system("aspirin").structure
    frames = first_structures(aspirin, 20, temperature, seed=1)
    bonds = networkx.Graph(bonded_pairs(aspirin).tolist())
    for frame in frames:
        distances = frame.atoms().get_all_distances()
        assert distances[np.triu_indices(len(aspirin), 1)].min() > 0.6
        lengths = np.array([distances[pair] for pair in bonds.edges])
        start = np.array([aspirin.get_distance(*pair) for pair in bonds.edges])
        assert np.abs(lengths - start).max() < 0.9
    torsions = [frame.atoms().get_all_distances().ravel() for frame in frames]
    assert min(np.abs(torsions[0] - other).max() for other in torsions[1:]) > 0.3


def test_equal_seeds_give_equal_structures():
    water = molecule("H2O")
    first, again, other = (first_structures(water, 3, 500.0, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].positions, other[0].positions)


def test_cells_are_strained_and_stay_periodic():
    silicon = bulk("Si", cubic=True)
    frames = first_structures(silicon, 5, 300.0, seed=0)
    assert all(frame.pbc == (True, True, True) for frame in frames)
    volumes = [abs(np.linalg.det(frame.cell)) / silicon.get_volume() for frame in frames]
    assert len(set(volumes)) == 5
    assert all(0.8 < volume < 1.25 for volume in volumes)
