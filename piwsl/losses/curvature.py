"""Products of the Hessian of the energy with a direction, differentiable for training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from piwsl.data.batch import Batch
from piwsl.losses.directions import FrameRandom, unit_vectors
from piwsl.losses.forward_mode import directional_derivative, elementary_layer_norm
from piwsl.models.potential import DirectPotential, Potential

_DIRECTION = 4  # random stream of this module


def random_directions(batch: Batch, randomness: FrameRandom) -> Tensor:
    """Return a random direction for each structure (N, 3), as a unit vector of each atom."""
    return unit_vectors(randomness.atoms(batch, _DIRECTION)).to(batch.positions.dtype)


def hessian_product(potential: Potential, batch: Batch, directions: Tensor, create_graph: bool = True) -> Tensor:
    """Return the product of the Hessian with a direction of each structure (N, 3), eV/angstrom^2.

    The product is the gradient of the slope of the energy along the direction, in reverse mode. For a potential with
    direct forces, it is minus the derivative of its forces along the direction, in forward mode.

    Args:
        potential: Potential, with or without a force head.
        batch: Structures.
        directions: Directions (N, 3) without a unit.
        create_graph: Whether the product is differentiable with respect to the weights.
    """
    if isinstance(potential, DirectPotential):
        with torch.set_grad_enabled(create_graph):
            _, change = directional_derivative(
                lambda positions: potential(*batch.moved(positions).graph)[1], batch.positions, directions
            )
        return -change
    with torch.enable_grad(), _ElementaryLayerNorm():
        positions = batch.positions.detach().requires_grad_(True)
        energies = potential.energies(*batch.moved(positions).graph)
        (gradient,) = torch.autograd.grad([energies.sum()], [positions], create_graph=True)
        (product,) = torch.autograd.grad([(gradient * directions).sum()], [positions], create_graph=create_graph)
    return product


class _ElementaryLayerNorm(TorchFunctionMode):
    """Function mode that computes layer norms from elementary operations.

    The third derivatives of the layer norm of PyTorch are wrong (PyTorch 2.12).
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        chosen = elementary_layer_norm if function is functional.layer_norm else function
        return chosen(*args, **(kwargs or {}))
