import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.structures.neighbors import neighbor_edges
from tests.support.molecules import cell, frame


def brute_force(made, cutoff):
    """All pairs with images, by looping: sorted (i, j, distance)."""
    found = []
    reach = range(-6, 7) if any(made.pbc) else range(1)
    for i, a in enumerate(made.positions):
        for j, b in enumerate(made.positions):
            for x in reach:
                for y in reach:
                    for z in reach:
                        distance = np.linalg.norm(b + np.array([x, y, z]) @ made.cell - a)
                        if distance < cutoff and (i != j or distance > 1e-9):
                            found.append((i, j, round(float(distance), 9)))
    return sorted(found)


@pytest.mark.parametrize("periodic", [False, True])
def test_neighbors_against_brute_force(periodic):
    rng = np.random.default_rng(1)
    cell = np.array([[3.0, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.3, 0.5, 3.3]])
    made = Frame(
        np.array([1, 6, 8, 1]),
        rng.uniform(-4, 4, size=(4, 3)),
        np.nan,
        np.full((4, 3), np.nan),
        cell if periodic else np.zeros((3, 3)),
        (periodic, periodic, periodic),
    )
    found = neighbor_edges(made.positions, made.cell, made.pbc, 4.5)
    vectors = made.positions[found.edges[1]] - made.positions[found.edges[0]] + found.shifts
    rows = sorted(zip(*found.edges.tolist(), np.linalg.norm(vectors, axis=1).round(9).tolist(), strict=True))
    expected = brute_force(made, 4.5)
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    assert np.allclose([row[2] for row in rows], [row[2] for row in expected], atol=1e-8)


def test_edges_stay_within_their_structure():
    batch = collate([frame("H2O"), frame("C6H6"), frame("CH4")], 5.0)
    assert batch.n_atoms.tolist() == [3, 12, 5]
    assert torch.equal(batch.structure_index[batch.edges[0]], batch.structure_index[batch.edges[1]])
    assert batch.energy.dtype == torch.float64


def test_the_second_half_of_the_edges_is_the_first_the_other_way_round():
    batch = collate([frame("H2O"), cell(), frame("CH4")], 4.5, torch.float64)
    for made in (batch, batch.copies([None, 0.1 * torch.ones_like(batch.positions)], [0, 1])):
        there, back = made.edges.chunk(2, dim=1)
        assert there.shape[1]
        assert torch.equal(there.flip(0), back)
        vectors = made.edge_vectors()
        torch.testing.assert_close(vectors, torch.cat([-part for part in reversed(vectors.chunk(2))]))
        assert made.edge_shifts.abs().max() > 0


def test_copies_are_displaced_batches():
    frames = [frame("H2O", labeled=True), frame("CH4", labeled=True)]
    batch = collate(frames, 5.0, torch.float64)
    displacement = 0.1 * torch.ones_like(batch.positions)
    copies = batch.copies([None, displacement, -displacement], [0, 1, 2])
    assert copies.n_structures == 6
    assert torch.allclose(copies.positions[8:16], batch.positions + displacement)
    assert torch.allclose(copies.positions[16:], batch.positions - displacement)
    assert copies.n_atoms.tolist() == [3, 5] * 3
    assert torch.equal(copies.structure_index[copies.edges[0]], copies.structure_index[copies.edges[1]])
    assert torch.isfinite(copies.energy[:2]).all()
    assert torch.isnan(copies.energy[2:]).all()
    assert torch.isnan(copies.forces[8:]).all()


def test_a_margin_keeps_all_neighbors_of_displaced_atoms():
    made = frame("CH3CH2OH")
    rng = np.random.default_rng(0)
    with_margin = _pairs(made, 2.1 + 0.4)
    crossings = 0
    for _ in range(20):
        shift = rng.normal(size=made.positions.shape)
        shift *= 0.2 / np.linalg.norm(shift, axis=1, keepdims=True)
        needed = _pairs(Frame(made.species, made.positions + shift, made.energy, made.forces), 2.1)
        assert needed <= with_margin
        crossings += not needed <= _pairs(made, 2.1)
    assert crossings


def _pairs(made, cutoff):
    return {tuple(edge) for edge in neighbor_edges(made.positions, made.cell, made.pbc, cutoff).edges.T.tolist()}
