"""Hessian-vector products against finite differences: values, and gradients for training."""

import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import FrameRandom
from piwsl.losses.curvature import hessian_product, random_directions
from piwsl.models import ModelConfig, build_potential
from tests.support.molecules import frame, oxide
from tests.support.potentials import ENERGIES, STIFFNESS, curling_springs, painn, springs


def directions_of(batch, seed=0):
    return random_directions(batch, FrameRandom(seed, 1))


def network(name):
    torch.manual_seed(0)
    made = build_potential(ModelConfig(network=name, channels=8, layers=1, cutoff=3.0), ENERGIES, scale=1.7)
    made.network.double()
    return made


def test_the_hessian_of_springs_is_their_stiffness():
    batch = collate([frame("H2", seed=1)], 3.0, torch.float64)
    directions = directions_of(batch)
    stretch = directions[0] - directions[1]
    expected = torch.stack([stretch @ STIFFNESS, -stretch @ STIFFNESS])
    assert torch.allclose(hessian_product(springs(), batch, directions), expected)


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_the_product_is_the_change_of_the_forces(forces):
    potential, step = painn(forces), 1e-4
    batch = collate([frame("CH3CH2OH", seed=1), oxide()], 3.1, torch.float64)
    directions = directions_of(batch)
    ends = [potential(*batch.moved(batch.positions + sign * step * directions).graph)[1] for sign in (1, -1)]
    expected = -(ends[0] - ends[1]).detach() / (2 * step)
    product = hessian_product(potential, batch, directions)
    assert torch.allclose(product, expected, atol=1e-4 * float(expected.abs().max()))
    assert torch.allclose(hessian_product(potential, batch, directions, create_graph=False), product)


@pytest.mark.parametrize("name", ["painn", "schnet", "tensornet"])
def test_its_gradient_reaches_the_weights(name):
    """The layer norm of PyTorch, which TensorNet uses, has wrong third derivatives."""
    potential = network(name)
    batch = collate([frame("H2O", seed=1)], 3.1, torch.float64)
    directions = directions_of(batch)
    weights = [weight for weight in potential.parameters() if weight.requires_grad]

    def loss():
        return hessian_product(potential, batch, directions).square().mean()

    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    torch.manual_seed(1)
    moves = [1e-5 * torch.randn_like(weight) for weight in weights]
    expected = sum((g * m).sum() for g, m in zip(gradients, moves, strict=True) if g is not None)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, move in zip(weights, moves, strict=True):
                weight += sign * move
        values.append(float(loss().detach()))
    assert (values[0] - values[1]) / 2 == pytest.approx(float(expected), rel=1e-4)


def test_directions_are_unit_vectors_of_atoms_and_differ_between_steps():
    batch = collate([frame("H2O"), frame("CH4")], 3.0, torch.float64, [4, 7])
    first = directions_of(batch)
    assert torch.allclose(first.norm(dim=-1), torch.ones(8, dtype=torch.float64))
    assert not torch.allclose(first, random_directions(batch, FrameRandom(0, 2)))
    alone = collate([frame("CH4")], 3.0, torch.float64, [7])
    assert torch.equal(directions_of(alone), first[3:])  # independent of the batch


def test_a_curl_appears_in_the_product_of_direct_forces():
    batch = collate([frame("H2", seed=1)], 3.0, torch.float64)
    directions = directions_of(batch)
    assert not torch.allclose(
        hessian_product(curling_springs(1.0), batch, directions), hessian_product(springs(), batch, directions)
    )
