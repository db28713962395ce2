import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from piwsl.data.frames import Frame
from piwsl.export.neighbors.batch import Batch, BatchNeighbors
from piwsl.structures.neighbors import neighbor_edges
from tests.support.molecules import oxide

CUTOFF = 4.0


def batch_of(structures):
    return Batch(
        torch.from_numpy(np.concatenate([atoms.positions for atoms in structures])),
        torch.from_numpy(np.stack([atoms.cell.array for atoms in structures])),
        torch.from_numpy(np.stack([atoms.pbc for atoms in structures])),
        torch.repeat_interleave(torch.tensor([len(atoms) for atoms in structures])),
    )


def listed(edges, vectors):
    """Edges in an order of their own, with their vectors."""
    rows = np.concatenate([edges.T, np.round(vectors, 6) + 0.0], axis=1)
    return rows[np.lexsort(rows.T)]


def check(neighbors, structures):
    edges, vectors = (values.numpy() for values in neighbors(batch_of(structures)))
    half = edges.shape[1] // 2
    assert np.array_equal(edges[:, half:], edges[::-1, :half])
    assert np.array_equal(vectors[half:], -vectors[:half])
    expected_edges, expected_vectors, start = [], [], 0
    for atoms in structures:
        frame = Frame.from_atoms(atoms)
        found = neighbor_edges(frame.positions, frame.cell, frame.pbc, CUTOFF)
        i, j = found.edges
        expected_edges.append(found.edges + start)
        expected_vectors.append(atoms.positions[j] - atoms.positions[i] + found.shifts)
        start += len(atoms)
    expected = listed(np.concatenate(expected_edges, axis=1), np.concatenate(expected_vectors))
    assert np.allclose(listed(edges, vectors), expected, atol=2e-6)


def slab():
    atoms = fcc111("Al", (1, 2, 2))
    assert not atoms.cell.array[2].any()
    return atoms


def wire():
    return Atoms("CO", [[0.0, 0.0, 0.0], [0.3, 0.2, 1.2]], cell=[0.0, 0.0, 2.3], pbc=(False, False, True))


@pytest.mark.parametrize(
    "structures",
    [
        [molecule("H2O"), Atoms("H"), molecule("C6H6"), molecule("H2O")],
        [oxide().atoms(), bulk("Fe", "bcc", a=2.87), bulk("Ar", "fcc", a=5.26, cubic=True).repeat((2, 1, 1))],
        [slab(), wire(), molecule("CH4"), bulk("Cu", "fcc", a=3.6)],
    ],
    ids=["molecules", "cells", "mixed"],
)
def test_moving_atoms_and_cells(structures):
    rng = np.random.default_rng(0)
    neighbors = BatchNeighbors(CUTOFF)
    n_steps = 30
    for _ in range(n_steps):
        check(neighbors, structures)
        for atoms in structures:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 2e-3, (3, 3))), scale_atoms=True)
            atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
    assert len(structures) < neighbors.searches < 0.6 * n_steps * len(structures)


def test_only_structures_that_moved_are_searched():
    structures = [molecule("C6H6"), molecule("CH3CH2OH"), oxide().atoms()]
    structures[0].pbc = structures[1].pbc = True
    structures[0].cell = structures[1].cell = [9.0, 9.0, 9.0]
    neighbors = BatchNeighbors(CUTOFF)
    check(neighbors, structures)
    structures[1].positions[0] += 0.24
    check(neighbors, structures)
    assert neighbors.searches == 3 + 1
    structures[0].positions[0] += 0.14
    check(neighbors, structures)
    assert neighbors.searches == 3 + 1
    structures[2].positions[0] += structures[2].cell[0]
    check(neighbors, structures)
    assert neighbors.searches == 3 + 2


def test_each_structure_is_compared_with_where_it_was_searched():
    restless, slow = molecule("C6H6"), Atoms("Ar2", [[0.0, 0.0, 0.0], [6.0, 0.0, 0.0]])
    neighbors = BatchNeighbors(CUTOFF)
    for step in range(30):
        restless.positions += 1.0
        slow.positions[1, 0] = 6.0 - 0.1 * step
        check(neighbors, [restless, slow])
    assert 30 + 8 <= neighbors.searches <= 30 + 15


def test_strained_cells_keep_their_lists():
    structures = [bulk("Cu", "fcc", a=3.6), bulk("Ar", "fcc", a=5.26, cubic=True).repeat((3, 1, 1)), slab()]
    restless = molecule("H2O")
    neighbors = BatchNeighbors(CUTOFF)
    for _ in range(16):
        check(neighbors, [restless, *structures])
        restless.positions += 1.0
        for atoms in structures:
            atoms.set_cell(0.99 * atoms.cell.array, scale_atoms=True)
    assert 16 + 2 * len(structures) <= neighbors.searches <= 16 + 3 * len(structures)


def test_other_structures_at_the_next_call():
    neighbors = BatchNeighbors(CUTOFF)
    first, second = molecule("CH3CH2OH"), molecule("CH3OCH3")
    for structures in ([first, second], [second, first], [second], [second, slab()], [second, oxide().atoms()]):
        check(neighbors, structures)


def test_periodicity_that_changes():
    atoms = oxide().atoms()
    neighbors = BatchNeighbors(CUTOFF)
    for pbc in (True, (True, False, True), False, True):
        atoms.pbc = pbc
        check(neighbors, [atoms])


def test_atoms_that_are_nowhere():
    lost, found = molecule("H2O"), molecule("CH4")
    neighbors = BatchNeighbors(CUTOFF)
    neighbors(batch_of([lost, found]))
    lost.positions[0, 0] = np.nan
    edges, _ = neighbors(batch_of([lost, found]))
    assert edges.shape[1] == 20
    assert edges.min() == 3
