"""The compiled neighbour sums are those of `EdgeList`, with all derivatives that training takes."""

import pytest
import torch

pytest.importorskip("numba", reason="needs numba: pip install 'piwsl[fast]'")

from piwsl.data.batch import collate
from piwsl.losses.evaluation import evaluate
from piwsl.losses.request import Request, Work
from piwsl.models.build import ModelConfig, build_potential
from piwsl.models.fused import FusedEdgeList, training_pairs
from piwsl.models.kernels import contract, quadrilinear, trilinear
from piwsl.models.pairs import EdgeList
from tests.molecules import frame

EDGES = torch.tensor([[0, 0, 1, 2, 2, 3], [1, 2, 0, 3, 1, 2]])


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


def arguments(form, channels=5):
    left, filters = numbers(4, 3, channels, seed=1), numbers(6, channels, seed=2)
    if form is trilinear:
        return [left, filters, numbers(4, 3, channels, seed=3)]
    return [left, numbers(6, 3, seed=4), filters, numbers(4, channels, seed=5)]


@pytest.mark.parametrize("form", [trilinear, quadrilinear])
@pytest.mark.parametrize("slot", [0, 1, 2, 3])
def test_first_and_second_derivatives(form, slot):
    given = arguments(form)
    if slot >= len(given):
        pytest.skip("the trilinear form has three arguments")

    def one(*others):
        filled = list(others)
        filled.insert(slot, None)
        return contract(form, slot, EDGES, filled)

    others = [value for index, value in enumerate(given) if index != slot]
    assert torch.autograd.gradcheck(one, others, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(one, others)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [3, 48])
def test_sums_equal_those_of_the_edge_list(channels, threads):
    fused, plain = FusedEdgeList(), EdgeList()
    filters, scalars, vectors = numbers(6, channels), numbers(4, channels, seed=1), numbers(4, 3, channels, seed=2)
    directions = numbers(6, 3, seed=3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.testing.assert_close(fused.scalars(filters, scalars, EDGES), plain.scalars(filters, scalars, EDGES))
        torch.testing.assert_close(fused.vectors(filters, vectors, EDGES), plain.vectors(filters, vectors, EDGES))
        ours = fused.outer(filters, scalars, directions, EDGES)
        torch.testing.assert_close(ours, plain.outer(filters, scalars, directions, EDGES))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("network", ["painn", "schnet", "tensornet"])
def test_training_gradients_equal_those_of_the_edge_list(network):
    """Energies, forces and a work in forward mode, and their gradients by all weights."""
    config = ModelConfig(network=network, channels=8, layers=2, radial_size=6)
    batch = collate([frame("CH3CH2OH"), frame("H2O")], 5.2, torch.float64)
    moves = [0.05 * torch.sin(7.0 * batch.positions), 0.05 * torch.cos(5.0 * batch.positions)]
    request = Request(frozenset({0, 1, 2}), frozenset({0}), frozenset({Work(0, 0, 1), Work(1, 0, 1)}))
    gradients = []
    for pairs in (EdgeList(), FusedEdgeList()):
        torch.manual_seed(0)
        potential = build_potential(config, {1: 0.0, 6: 0.0, 8: 0.0}, pairs=pairs).double()
        points = evaluate(potential, batch, moves, request)
        parts = [*points.energies.values(), *points.forces.values(), points.work(Work(0, 0, 1)), *points.works.values()]
        sum(part.square().sum() for part in parts).backward()
        gradients.append({name: weight.grad for name, weight in potential.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-9, atol=1e-9, msg=name)


def test_mixed_precision_falls_back():
    half = torch.ones(6, 4, dtype=torch.bfloat16)
    values = torch.ones(4, 4)
    assert torch.equal(FusedEdgeList().scalars(half, values, EDGES), EdgeList().scalars(half, values, EDGES))


def test_processors_train_with_compiled_loops():
    assert isinstance(training_pairs(torch.device("cpu")), FusedEdgeList)
    assert type(training_pairs(torch.device("cuda"))) is EdgeList
