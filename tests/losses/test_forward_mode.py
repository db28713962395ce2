"""Directional derivatives in forward mode: right, with right gradients by the weights, and without waste."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from piwsl.data.batch import collate
from piwsl.losses.forward_mode import directional_derivative
from piwsl.models import ModelConfig, build_potential
from tests.support.molecules import frame


def gradients(potential, result):
    values, change = result
    (values.square().sum() + change.square().sum()).backward()
    found = {name: weight.grad for name, weight in potential.named_parameters() if weight.grad is not None}
    for weight in potential.parameters():
        weight.grad = None
    return found


@pytest.mark.parametrize("network", ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv"])
def test_equal_to_reverse_mode(network):
    torch.manual_seed(0)
    config = ModelConfig(network=network, channels=6, layers=2, radial_size=6)
    potential = build_potential(config, {1: 0.0, 6: 0.0, 8: 0.0}).double()
    batch = collate([frame("CH3CH2OH"), frame("H2O")], 5.2, torch.float64)
    steps = 0.1 * torch.sin(7.0 * batch.positions)

    forward = directional_derivative(
        lambda positions: potential.energies(*batch.moved(positions).graph), batch.positions, steps
    )
    energies, forces = potential(*batch.graph, create_graph=True)
    works = energies.new_zeros(2).index_add(0, batch.structure_index, -(steps * forces).sum(-1))

    torch.testing.assert_close(forward, (energies, works))
    expected = gradients(potential, (energies, works))
    found = gradients(potential, forward)
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=name)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return function(*args, **(kwargs or {}))


def test_no_product_with_weights_that_do_not_change():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1))
    with Products() as products:
        values, change = directional_derivative(lambda x: network(x).sum(), torch.randn(5, 3), torch.randn(5, 3))
    assert products.count == 4  # a value and a tangent for each layer
    with Products() as products:
        (values + change).backward()
    assert products.count == 6  # by the weights of both layers, by what enters the second, each for both


def test_weights_may_have_tangents_of_their_own():
    weight = torch.randn(4, 3, dtype=torch.float64)
    positions, steps = torch.randn(3, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    values, change = directional_derivative(
        lambda x: nn.functional.silu(x.matmul(x) + weight.matmul(x).sum()).sum(), positions, steps
    )
    step = 1e-6

    def function(x):
        return nn.functional.silu(x.matmul(x) + weight.matmul(x).sum()).sum()

    difference = (function(positions + step * steps) - function(positions - step * steps)) / (2 * step)
    torch.testing.assert_close(values, function(positions))
    torch.testing.assert_close(change, difference, rtol=1e-7, atol=1e-7)
