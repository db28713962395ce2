"""Copies of a molecule in one call are what each of them is alone."""

import pytest
import torch

from piwsl.export.forms.graph import molecule_function, trace
from piwsl.models import build_potential
from piwsl.models.neighbor_sums.molecule import MoleculeCopies, MoleculePairs
from tests.support.models_for_tests import small_config

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
FORMS = {"pairs": MoleculePairs, "copies": MoleculeCopies}
NETWORKS = [
    *(
        (name, "conservative")
        for name in ("painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "mace")
    ),
    *((name, "direct") for name in ("painn", "escn", "equiformer_v2", "spinconv")),
]


def function(network, pairs, dtype=torch.float64, species=None):
    """Energies and forces of pair vectors, with the same random weights whatever the pairs are."""
    torch.manual_seed(0)
    config = small_config(network[0], forces=network[1], channels=8, radial_size=6, cutoff=3.0)
    potential = build_potential(config, ENERGIES, 1.7, pairs).requires_grad_(False)
    potential.network.to(dtype)
    species = torch.tensor([8, 1, 6, 1, 6, 8, 1])[: pairs.n_atoms] if species is None else species
    return molecule_function([potential], pairs, species)


def vectors(pairs, positions):
    """Of the pairs of positions (R, n, 3)."""
    rows = positions.transpose(0, 1).reshape(-1, 3)
    first, second = pairs.pair_edges()
    return rows[second] - rows[first]


def by_copy(pairs, forces):
    return forces[0].view(pairs.n_atoms, pairs.copies, 3).transpose(0, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS, ids="-".join)
@pytest.mark.parametrize(
    ("n_atoms", "copies"),
    [(2, 3), (7, 1), (7, 3), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((3, 8), (6, 3)))],
)
def test_each_copy_is_what_it_is_alone(network, form, n_atoms, copies):
    positions = 0.6 * torch.randn(copies, n_atoms, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    together, alone = FORMS[form](n_atoms, copies).double(), MoleculePairs(n_atoms).double()
    energies, forces = function(network, together)(vectors(together, positions))
    single = function(network, alone)
    assert energies.shape == (1, copies)
    assert float(forces.abs().max()) > 1e-4
    for copy in range(copies):
        energy, expected = single(vectors(alone, positions[copy : copy + 1]))
        torch.testing.assert_close(energies[:, copy], energy[:, 0], rtol=0, atol=1e-11)
        torch.testing.assert_close(by_copy(together, forces)[copy], expected[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS, ids="-".join)
def test_what_one_copy_does_leaves_no_trace_in_the_others(network, form):
    """Bit by bit, also where it is nowhere."""
    positions = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(2))
    pairs = FORMS[form](6, 4)
    evaluate = function(network, pairs, torch.float32)
    energies, forces = evaluate(vectors(pairs, positions))
    others = [0, 1, 3]
    for somewhere in (torch.randn(6, 3), torch.full((6, 3), float("nan"))):
        positions[2] = somewhere
        moved_energies, moved_forces = evaluate(vectors(pairs, positions))
        assert not torch.equal(moved_energies[:, 2], energies[:, 2])
        assert torch.equal(moved_energies[:, others], energies[:, others])
        assert torch.equal(by_copy(pairs, moved_forces)[others], by_copy(pairs, forces)[others])


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS[:2], ids="-".join)
def test_copies_cost_no_operation_more(network):
    """The recorded operations of one molecule and of three are the same, in the same order."""
    operations = []
    for copies in (1, 3):
        pairs = MoleculePairs(6, copies)
        evaluate = function(network, pairs, torch.float32)
        graph = trace(evaluate, [vectors(pairs, torch.randn(copies, 6, 3))])
        operations.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
    assert operations[0] == operations[1]


@pytest.mark.slow
def test_views_that_repeat_elements_are_not_stored():
    """Windows on an array of atoms overlap: as arrays of their own they would be several times as large."""
    pairs = MoleculePairs(40, 20)
    species = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(0))
    evaluate = function(("painn", "conservative"), pairs, torch.float32, torch.tensor([1, 6, 8])[species])
    graph = trace(evaluate, [torch.randn(pairs.pair_edges().shape[1], 3)])
    largest = max(buffer.numel() for buffer in graph.buffers())
    assert largest < 2 * (pairs.rows + 2 * pairs.margin) * 8
