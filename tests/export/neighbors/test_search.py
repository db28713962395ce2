import itertools

import numpy as np
import pytest
import torch

from piwsl.data.frames import Frame
from piwsl.export.neighbors.search import NeighborSearch
from piwsl.structures.neighbors import neighbor_edges

CUTOFF = 4.0
ALL_PBC = list(itertools.product((False, True), repeat=3))
CELLS = {
    "cubic": 9.0 * np.eye(3),
    "skewed": np.array([[9.0, 0.0, 0.0], [7.5, 8.5, 0.0], [-5.0, 6.0, 8.2]]),
    "left-handed": np.array([[0.5, 9.0, 0.3], [8.7, -0.2, 0.4], [0.1, 0.6, 10.5]]),
    "smaller than the cutoff": np.array([[2.6, 0.0, 0.0], [0.9, 3.1, 0.2], [-0.8, 0.4, 1.7]]),
    "thin": np.diag([1.1, 30.0, 13.0]),
    "just narrower than two cutoffs": np.diag([7.9, 8.3, 8.1]),
}


@pytest.fixture(scope="module")
def scripted():
    return torch.jit.script(NeighborSearch(CUTOFF))


def searches(few):
    """The search, with all atoms taken for few, for many, or as they come."""
    search = NeighborSearch(CUTOFF)
    search.few = search.few if few is None else few
    return search


@pytest.fixture
def candidates(monkeypatch):
    """How many pairs each eager search of many atoms compares."""
    counts = []
    expand = torch.repeat_interleave
    monkeypatch.setattr(torch, "repeat_interleave", lambda runs: counts.append(int(runs.sum())) or expand(runs))
    return counts


def find(search, positions, cell=None, pbc=None):
    edges, vectors = search(
        torch.as_tensor(positions),
        None if cell is None else torch.as_tensor(cell),
        None if pbc is None else torch.tensor(pbc),
    )
    assert edges.dtype == torch.int64
    assert vectors.dtype == torch.float64
    assert edges.shape == (2, len(vectors))
    assert vectors.shape[1] == 3
    return edges.numpy(), vectors.numpy()


def as_set(edges, vectors):
    pairs = {(int(i), int(j), *np.round(v, 6)) for (i, j), v in zip(edges.T, vectors + 0.0, strict=True)}
    assert len(pairs) == len(vectors), "an edge is there twice"
    return pairs


def expected(positions, cell=None, pbc=(True, True, True)):
    """What vesin finds."""
    cell, pbc = (np.zeros((3, 3)), (False,) * 3) if cell is None else (cell, pbc)
    frame = Frame(np.ones(len(positions), dtype=int), positions, np.nan, positions * np.nan, cell, pbc)
    found = neighbor_edges(frame.positions, frame.cell, frame.pbc, CUTOFF)
    return as_set(found.edges, positions[found.edges[1]] - positions[found.edges[0]] + found.shifts)


def assert_as_expected(search, positions, cell=None, pbc=None):
    edges, vectors = find(search, positions, cell, pbc)
    assert as_set(edges, vectors) == expected(positions, cell, (True,) * 3 if pbc is None else pbc)
    half = edges.shape[1] // 2
    assert np.array_equal(edges[:, half:], edges[::-1, :half])
    assert np.array_equal(vectors[half:], -vectors[:half])
    return len(vectors)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("n_atoms", [1, 2, 3, 21, 300])
def test_pairs_of_a_molecule(n_atoms, few):
    rng = np.random.default_rng(n_atoms)
    positions = rng.normal(scale=0.8 * n_atoms ** (1 / 3), size=(n_atoms, 3))
    found = assert_as_expected(searches(few), positions)
    assert (found > 0) == (n_atoms > 1)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("pbc", ALL_PBC)
@pytest.mark.parametrize("name", CELLS)
def test_pairs_in_cells_with_atoms_anywhere(name, pbc, few):
    cell = CELLS[name]
    rng = np.random.default_rng(0)
    for n_atoms in (1, 2, 12):
        inside = rng.uniform(size=(n_atoms, 3))
        assert_as_expected(searches(few), inside @ cell, cell, pbc)
        anywhere = inside + rng.integers(-3, 4, size=(n_atoms, 3)) * np.array(pbc)
        assert_as_expected(searches(few), anywhere @ cell, cell, pbc)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, True, False)])
def test_pairs_of_many_atoms(pbc, scripted):
    rng = np.random.default_rng(1)
    cell = np.array([[19.0, 0.0, 0.0], [8.0, 18.0, 0.0], [-6.0, 5.0, 21.0]])
    positions = rng.uniform(-0.5, 1.5, size=(900, 3)) @ cell
    assert assert_as_expected(scripted, positions, cell, pbc) > 900


@pytest.mark.parametrize("few", [0, 1000])
def test_two_images_of_one_neighbor(few):
    length = 1.98 * CUTOFF
    positions = np.array([[0.0, 0.0, 0.0], [0.5 * length, 0.0, 0.0]])
    assert assert_as_expected(searches(few), positions, length * np.eye(3)) == 4


def test_atoms_on_the_faces_of_a_cell(scripted):
    cell = 8.4 * np.eye(3)
    positions = np.array(list(itertools.product((0.0, 2.1, 4.2, 6.3, 8.4 - 1e-15), repeat=3)))
    positions += np.array([0.0, -1e-17, 8.4])
    positions = positions[:, [2, 0, 1]]
    assert_as_expected(searches(0), positions, cell)
    assert_as_expected(scripted, positions, cell)


@pytest.mark.parametrize("rows", ["zeros", "nan", "parallel"])
def test_rows_of_directions_that_are_not_periodic_do_not_matter(rows):
    rng = np.random.default_rng(2)
    for pbc in ALL_PBC:
        cell = np.array([[5.0, 0.3, 0.0], [1.0, 4.5, 0.0], [0.2, -0.4, 6.0]])
        positions = rng.uniform(size=(8, 3)) @ cell
        same = find(searches(0), positions, cell, pbc)
        other = {"zeros": 0.0 * cell, "nan": np.nan * cell, "parallel": np.ones((3, 3))}[rows]
        changed = find(searches(0), positions, np.where(np.array(pbc)[:, None], cell, other), pbc)
        assert as_set(*same) == as_set(*changed)


def test_without_pbc_a_cell_is_periodic_and_a_molecule_is_not():
    positions = np.array([[0.1, 0.0, 0.0], [8.8, 0.0, 0.0]])
    assert find(searches(None), positions, CELLS["cubic"])[0].shape[1] == 2
    assert find(searches(None), positions, CELLS["cubic"], (False, True, True))[0].shape[1] == 0
    assert find(searches(None), positions)[0].shape[1] == 0
    assert find(searches(None), positions, None, (False, False, False))[0].shape[1] == 0


@pytest.mark.parametrize("few", [0, 1000])
def test_fragments_that_drifted_apart(few):
    rng = np.random.default_rng(3)
    fragments = [rng.normal(size=(15, 3)) + center for center in ([0.0, 0.0, 0.0], [1e4, 0.0, 5.0], [-1e7, 1e9, 2e5])]
    assert_as_expected(searches(few), np.concatenate(fragments[:2]))
    edges, _ = find(searches(few), np.concatenate(fragments))
    each = [find(searches(few), fragment)[0] + 15 * k for k, fragment in enumerate(fragments)]
    assert set(zip(*edges, strict=True)) == {pair for found in each for pair in zip(*found, strict=True)}


def test_wide_gaps_cost_nothing(candidates):
    rng = np.random.default_rng(4)
    gas = rng.uniform(-3e4, 3e4, size=(500, 3))
    assert find(searches(0), np.concatenate([gas, gas + 1.0]))[0].shape == (2, 1000)
    chain = np.arange(2000.0)[:, None] * [1.0, 1.0, 1.0]
    assert assert_as_expected(searches(0), chain) == 2 * (1999 + 1998)
    drop = rng.uniform(0.0, 21.0, size=(1000, 3))
    together, _ = find(searches(0), drop)
    drop[0] = -1e9  # it does not take the others' bins with it
    find(searches(0), drop)
    assert candidates[0] < 2000
    assert candidates[1] < 30000
    assert candidates[2] < 2.5 * together.shape[1]
    assert candidates[3] < 1.2 * candidates[2]


@pytest.mark.parametrize("n_atoms", [500, 4000])
def test_candidates_grow_linearly(n_atoms, candidates):
    length = (10.0 * n_atoms) ** (1 / 3)
    positions = np.random.default_rng(5).uniform(0.0, length, size=(n_atoms, 3))
    edges, _ = find(searches(0), positions, length * np.eye(3))
    assert candidates[0] < 2.0 * edges.shape[1]


@pytest.mark.parametrize("cell", [None, CELLS["cubic"], CELLS["thin"]])
@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_atoms_that_are_nowhere_have_no_pairs(bad, few, cell):
    positions = np.random.default_rng(6).uniform(0.0, 5.0, size=(10, 3))
    lost = positions.copy()
    lost[[0, 7], [1, 2]] = bad
    kept = np.delete(np.arange(10), [0, 7])
    edges, vectors = find(searches(few), lost, cell)
    if not np.isfinite(bad):  # a number of any size is somewhere in the cell
        assert set(edges.flatten()) <= set(kept)
    among = np.isin(edges, kept).all(0)
    expected_edges, expected_vectors = find(searches(few), positions[kept], cell)
    assert as_set(edges[:, among], vectors[among]) == as_set(kept[expected_edges], expected_vectors)


def test_an_explosion_ends(candidates, scripted):
    positions = np.random.default_rng(6).uniform(0.0, 30.0, size=(3000, 3))
    for cell in (None, CELLS["cubic"], CELLS["thin"]):
        assert find(scripted, positions * np.nan, cell)[0].shape == (2, 0)
        positions[10:] = np.nan
        find(searches(0), positions, cell)
    assert sum(candidates) < 10000


def test_a_cell_that_is_not_finite_has_no_pairs():
    positions = np.zeros((3, 3))
    for bad in (np.nan, np.inf):
        assert find(searches(None), positions, np.diag([9.0, bad, 9.0]))[0].shape == (2, 0)


def test_a_cell_that_has_collapsed_is_refused(scripted):
    positions = np.random.default_rng(6).uniform(0.0, 1.0, size=(200, 3))
    with pytest.raises((ValueError, torch.jit.Error), match="too small for its atoms"):
        find(scripted, positions, np.eye(3))


@pytest.mark.parametrize("n_atoms", [0, 1, 2])
@pytest.mark.parametrize("few", [0, 1000])
def test_no_pairs_at_all(n_atoms, few):
    positions = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])[:n_atoms]
    for cell in (None, CELLS["cubic"] * 3.0):
        edges, vectors = find(searches(few), positions, cell)
        assert edges.shape == (2, 0)
        assert vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), None),
        (np.diag([9.0, 9.0, 0.0]), None),
        (np.ones((3, 3)), None),
        (np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [1.0, 3.0, 0.0]]), None),
        (np.array([[9.0, 1.0, 0.0], [18.0, 2.0, 0.0], [0.0, 0.0, 9.0]]), (True, True, False)),
        (np.diag([9.0, 0.0, 9.0]), (False, True, False)),
    ],
)
def test_a_flat_cell_is_refused(cell, pbc, scripted):
    with pytest.raises(ValueError, match="neither zero nor parallel"):
        find(searches(None), np.zeros((2, 3)), cell, pbc)
    with pytest.raises(torch.jit.Error, match="neither zero nor parallel"):
        find(scripted, np.zeros((2, 3)), cell, pbc)


def test_periodic_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="pass the cell"):
        find(searches(None), np.zeros((2, 3)), None, (True, False, False))


def test_scripted_is_as_eager(scripted):
    rng = np.random.default_rng(7)
    for n_atoms, cell in itertools.product((1, 30, 250), (None, CELLS["skewed"], CELLS["thin"])):
        for pbc in (None,) if cell is None else (None, (True, False, True)):
            positions = rng.uniform(size=(n_atoms, 3)) @ (9.0 * np.eye(3) if cell is None else cell)
            for one, other in zip(
                find(scripted, positions, cell, pbc), find(searches(None), positions, cell, pbc), strict=True
            ):
                assert np.array_equal(one, other)


def test_positions_with_gradients_and_in_single_precision_are_taken():
    positions = torch.rand(5, 3, requires_grad=True)
    edges, vectors = NeighborSearch(CUTOFF)(positions, None, None)
    assert edges.shape == (2, 20)
    assert vectors.dtype == torch.float64
    assert not vectors.requires_grad
