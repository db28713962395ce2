"""The compiled neighbor sums are those of `EdgeList`, with all derivatives that training takes."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("numba", reason="needs numba: pip install 'piwsl[fast]'")

from piwsl.data.batch import collate
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest, Work
from piwsl.models import build_potential
from piwsl.models.multilinear import contract
from piwsl.models.neighbor_sums.compiled import FusedEdgeList, Quadrilinear, Trilinear
from piwsl.models.neighbor_sums.edge_list import EdgeHalves, EdgeList
from piwsl.models.training_loops import training_neighbor_sums
from tests.support.models_for_tests import small_config
from tests.support.molecules import frame, oxide

# Six pairs, one of them of an atom with its own image, and the edges they stand for.
PAIRS = torch.tensor([[0, 0, 1, 2, 2, 3], [1, 2, 3, 3, 1, 3]])
EDGES = torch.cat((PAIRS, PAIRS.flip(0)), dim=1)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


def arguments(form, channels=5):
    left, filters = numbers(4, 3, channels, seed=1), numbers(6, channels, seed=2)
    if isinstance(form, Trilinear):
        return [left, filters, numbers(4, 3, channels, seed=3)]
    return [left, numbers(6, 3, seed=4), filters, numbers(4, channels, seed=5)]


@pytest.mark.slow
@pytest.mark.parametrize("form", [Trilinear(PAIRS), Quadrilinear(PAIRS, -1.0), Quadrilinear(PAIRS, 1.0)])
@pytest.mark.parametrize("slot", [0, 1, 2, 3])
def test_first_and_second_derivatives(form, slot):
    given = arguments(form)
    if slot >= len(given):
        pytest.skip("the trilinear form has three arguments")

    def one(*others):
        filled = list(others)
        filled.insert(slot, None)
        return contract(form, slot, filled)

    others = [value for index, value in enumerate(given) if index != slot]
    assert torch.autograd.gradcheck(one, others, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(one, others)


@pytest.mark.parametrize("sums", [FusedEdgeList, EdgeHalves])
@pytest.mark.parametrize("parity", [-1.0, 1.0])
@pytest.mark.parametrize("channels", [3, 48])
def test_sums_equal_those_of_the_edge_list(channels, parity, sums):
    fused, plain = sums(), EdgeList()
    filters, scalars, vectors = numbers(6, channels), numbers(4, channels, seed=1), numbers(4, 3, channels, seed=2)
    directions = numbers(6, 3, seed=3)
    both, both_ways = torch.cat((filters, filters)), torch.cat((directions, parity * directions))
    edges, vectors_of_pairs = fused.unique_pairs(EDGES, both_ways)
    assert torch.equal(edges, PAIRS)
    assert torch.equal(vectors_of_pairs, directions)
    torch.testing.assert_close(fused.scalars(filters, scalars, edges), plain.scalars(both, scalars, EDGES))
    torch.testing.assert_close(fused.vectors(filters, vectors, edges), plain.vectors(both, vectors, EDGES))
    ours = fused.outer(filters, scalars, directions, parity, edges)
    torch.testing.assert_close(ours, plain.outer(both, scalars, both_ways, parity, EDGES))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "mace"]
)
def test_training_gradients_equal_those_of_the_edge_list(network):
    """Energies, forces and a work in forward mode, and their gradients by all weights."""
    config = small_config(network, channels=8, radial_size=6)
    batch = collate([frame("CH3CH2OH"), oxide(), frame("H2O")], 5.2, torch.float64)
    moves = [0.05 * torch.sin(7.0 * batch.positions), 0.05 * torch.cos(5.0 * batch.positions)]
    request = PredictionRequest(frozenset({0, 1, 2}), frozenset({0}), frozenset({Work(0, 0, 1), Work(1, 0, 1)}))
    gradients = []
    for pairs in (EdgeList(), FusedEdgeList()):
        torch.manual_seed(0)
        potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0), neighbor_sums=pairs).double()
        points = evaluate(potential, batch, moves, request)
        parts = [*points.energies.values(), *points.forces.values(), points.work(Work(0, 0, 1)), *points.works.values()]
        sum(part.square().sum() for part in parts).backward()
        gradients.append({name: weight.grad for name, weight in potential.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-9, atol=1e-9, msg=name)


def test_processors_train_with_compiled_loops():
    assert isinstance(training_neighbor_sums(torch.device("cpu"))[0], FusedEdgeList)
    assert type(training_neighbor_sums(torch.device("cuda"))[0]) is EdgeList
    assert type(training_neighbor_sums(torch.device("cpu"), mixed_precision=True)[0]) is EdgeList


@pytest.mark.slow
def test_loops_are_compiled_where_nothing_can_be_kept():
    """As on a read-only installation of a user without a home."""
    code = (
        "import numba.core.caching as caching, torch\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from piwsl.models.multilinear import contract\n"
        "from piwsl.models.neighbor_sums.compiled import Trilinear\n"
        "ones = torch.ones(2, 1, 3)\n"
        "print(contract(Trilinear(torch.tensor([[0], [1]])), 0, [None, torch.ones(1, 3), ones]).sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "6.0", done.stderr
