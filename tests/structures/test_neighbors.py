import numpy as np
import pytest

from piwsl.data.frames import Frame
from piwsl.structures.neighbors import SkinnedNeighbors, neighbor_edges
from tests.support.molecules import frame

CUTOFF = 4.0


def as_set(edges, vectors):
    return {(int(i), int(j), *np.round(v, 6)) for (i, j), v in zip(edges.T, vectors + 0.0, strict=True)}


def expected(positions, cell, pbc):
    made = Frame(np.ones(len(positions), dtype=int), positions, np.nan, positions * np.nan, cell, pbc)
    found = neighbor_edges(made.positions, made.cell, made.pbc, CUTOFF)
    return as_set(found.edges, positions[found.edges[1]] - positions[found.edges[0]] + found.shifts)


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False)])
@pytest.mark.parametrize("speed", [0.01, 0.04, 0.6])
def test_atoms_that_move_fast_never_outrun_the_list(pbc, speed):
    rng = np.random.default_rng(0)
    cell = np.array([[6.0, 0.0, 0.0], [1.5, 5.5, 0.0], [0.5, -1.0, 7.0]])
    positions = rng.uniform(size=(30, 3)) @ cell
    neighbors = SkinnedNeighbors(CUTOFF, pbc)
    for _ in range(20):
        positions = positions + rng.normal(scale=speed, size=positions.shape)
        found = as_set(*neighbors(positions, cell))
        assert found == expected(positions, cell, pbc)
    assert neighbors.searches == 20 if speed == 0.6 else neighbors.searches < 20


def test_a_list_is_used_until_an_atom_has_moved_half_of_the_skin():
    positions = frame("C6H6").positions
    neighbors = SkinnedNeighbors(CUTOFF, (False,) * 3, skin=0.5)
    neighbors(positions, None)
    for step, searches in ((0.24, 1), (0.26, 2), (0.5, 2), (0.52, 3)):
        moved = positions.copy()
        moved[3, 1] += step
        neighbors(moved, None)
        assert neighbors.searches == searches


def test_a_cell_that_changes_is_followed():
    rng = np.random.default_rng(1)
    cell = 5.0 * np.eye(3)
    positions = rng.uniform(size=(10, 3)) @ cell
    neighbors = SkinnedNeighbors(CUTOFF, (True,) * 3)
    for scale in (1.0, 1.05, 0.9):
        found = as_set(*neighbors(scale * positions, scale * cell))
        assert found == expected(scale * positions, scale * cell, (True,) * 3)


def test_an_explosion_ends():
    positions = frame("H2O").positions
    neighbors = SkinnedNeighbors(CUTOFF, (False,) * 3)
    neighbors(positions, None)
    edges, _ = neighbors(positions * np.nan, None)
    assert edges.shape == (2, 0)
    assert neighbors(positions, None)[0].shape[1] == 6
