import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models import build_potential
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from tests.support.models_for_tests import small_config

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
NETWORKS = ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "mace"]


def potential(network, neighbor_sums=None):
    torch.manual_seed(0)
    config = small_config(network, channels=8, radial_size=6, cutoff=3.0)
    made = build_potential(config, ENERGIES, 1.7, neighbor_sums)
    made.network.double().requires_grad_(False)
    return made


def atoms_anywhere(n_atoms, seed=0):
    """Atoms of which some pairs are within 3 angstrom and some are not."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(scale=1.6, size=(n_atoms, 3))
    return Frame(rng.choice([1, 6, 8], n_atoms), positions, np.nan, positions * np.nan)


@pytest.mark.parametrize("n_atoms", [2, 3, 4, 5, 12, 13])
@pytest.mark.parametrize("network", NETWORKS)
def test_they_give_what_edge_lists_give(network, n_atoms):
    frame = atoms_anywhere(n_atoms)
    batch = collate([frame], 3.0, torch.float64)
    energies, forces = potential(network)(*batch.graph)
    pairs = MoleculePairs(n_atoms).double()
    edges = pairs.pair_edges()
    shifts = torch.zeros(edges.shape[1], 3, dtype=torch.float64)
    same = potential(network, pairs)(batch.species, batch.positions, edges, shifts, batch.structure_index, 1)
    assert float(forces.abs().max()) > 1e-3
    torch.testing.assert_close(same[0], energies, rtol=0, atol=1e-11)
    torch.testing.assert_close(same[1], forces, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_atoms", [2, 5, 6])
def test_forces_are_sums_of_the_gradients_of_pairs(n_atoms):
    pairs = MoleculePairs(n_atoms)
    first, second = pairs.pair_edges()
    gradient = torch.randn(len(first), 3, dtype=torch.float64)
    expected = (
        torch.zeros(n_atoms, 3, dtype=torch.float64).index_add(0, first, gradient).index_add(0, second, -gradient)
    )
    torch.testing.assert_close(pairs.forces(gradient), expected)


@pytest.mark.parametrize("n_atoms", [5, 6])
def test_each_pair_is_there_once_or_counts_half(n_atoms):
    pairs = MoleculePairs(n_atoms)
    weights = pairs.weighted(torch.ones(pairs.reach, n_atoms, 1)).flatten()
    counts = torch.zeros(n_atoms, n_atoms)
    for (one, other), weight in zip(pairs.pair_edges().t().tolist(), weights.tolist(), strict=True):
        counts[min(one, other), max(one, other)] += weight
    assert torch.equal(counts, torch.triu(torch.ones(n_atoms, n_atoms), 1))
