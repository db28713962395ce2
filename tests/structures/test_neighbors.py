import numpy as np
import pytest

from piwsl.data.frames import Frame
from piwsl.errors import DataError
from piwsl.structures.neighbors import SkinnedNeighbors, _sparse_pairs, neighbor_edges, neighbor_pairs
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


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False)])
def test_every_pair_and_image_is_there_once(pbc):
    """In a cell narrower than the cutoff an atom is a neighbor of its own images."""
    rng = np.random.default_rng(1)
    cell = np.array([[3.0, 0.0, 0.0], [0.5, 3.5, 0.0], [0.2, -0.4, 6.0]])
    positions = rng.uniform(size=(6, 3)) @ cell
    pairs = neighbor_pairs(positions, cell, pbc, CUTOFF)
    once = [(int(i), int(j), *map(int, s)) for i, j, s in zip(pairs.first, pairs.second, pairs.images, strict=True)]
    both = [*once, *((j, i, -a, -b, -c) for i, j, a, b, c in once)]
    axes = [range(-3, 4) if periodic else (0,) for periodic in pbc]
    images = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = positions[None, :, None] + (images @ cell)[None, None] - positions[:, None, None]
    distances = np.linalg.norm(vectors, axis=-1)
    within = np.argwhere((distances < CUTOFF) & (distances > 0))
    assert sorted(both) == sorted((int(i), int(j), *map(int, images[k])) for i, j, k in within)
    shifted = positions[pairs.second] + pairs.images @ cell - positions[pairs.first]
    assert pairs.distances == pytest.approx(np.linalg.norm(shifted, axis=1))


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False), (False, False, True)])
def test_the_search_for_sparse_atoms_agrees_with_the_usual_one(pbc):
    cell = np.array([[3.0, 0.0, 0.0], [0.5, 3.5, 0.0], [0.2, -0.4, 6.0]])
    positions = np.random.default_rng(2).normal(scale=8.0, size=(20, 3))
    usual, tree = neighbor_pairs(positions, cell, pbc, CUTOFF), _sparse_pairs(positions, cell, pbc, CUTOFF)

    def both(pairs):
        rows = zip(pairs.first, pairs.second, pairs.images, pairs.distances, strict=True)
        once = {(int(i), int(j), *map(int, s), round(float(d), 8)) for i, j, s, d in rows}
        return once | {(j, i, -a, -b, -c, d) for i, j, a, b, c, d in once}

    assert both(tree) == both(usual)
    assert len(tree.first) == len(usual.first) > 0


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, True, False)])
@pytest.mark.parametrize("far", [1e6, 1e9, 1e12])
def test_an_atom_far_away_leaves_the_neighbors_of_the_others(pbc, far):
    """Vesin ended the process here, with a division by zero."""
    cell = np.diag([10.0, 10.0, far])
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.5, 0.3, 0.0], [0.0, 0.0, 0.4 * far]])
    pairs = neighbor_pairs(positions, cell, pbc, CUTOFF)
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize("scale", [0.1, 1e-3, 0.0])
def test_a_cell_that_has_collapsed_is_refused_at_once(scale):
    cell = 4.0 * scale * np.eye(3)
    positions = scale * np.random.default_rng(0).uniform(high=4.0, size=(8, 3))
    with pytest.raises(DataError, match=r"the cell is flat|too small for 8 atoms|without a cell"):
        SkinnedNeighbors(CUTOFF, (True,) * 3)(positions, cell)
