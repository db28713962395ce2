"""Curl of direct forces, which measures how far they are from the gradient of an energy."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from piwsl.data.batch import Batch
from piwsl.losses.directions import FrameRandom
from piwsl.losses.predictions import sum_per_structure
from piwsl.models.potential import DirectPotential


@dataclass(frozen=True)
class Curl:
    """Deviation of direct forces from a gradient field, per structure (S,).

    Attributes:
        asymmetry: |J - J^T| / |J + J^T| in the Frobenius norm, with J = dF/dx (3n, 3n). It is zero for
            conservative forces.
        mismatch: Root mean square component of F + dE/dx, eV/angstrom.
    """

    asymmetry: Tensor
    mismatch: Tensor


def measure_curl(potential: DirectPotential, batch: Batch, seed: int = 0, probes: int = 8) -> Curl:
    """Measure the curl of direct forces.

    The norms are estimated with random vectors (Hutchinson 1989). For a vector v of independent standard normal
    components, E[|A v|^2] = |A|^2 (Frobenius) for any matrix A. Here, A = J +- J^T with J = dF/dx. J v is computed in
    forward mode, and J^T v in reverse mode.

    Args:
        potential: Potential with a force head.
        batch: Batch of structures.
        seed: Seed of the random vectors.
        probes: Number of random vectors.
    """
    odd = even = batch.energy.new_zeros(batch.n_structures)
    for probe in range(probes):
        vectors = FrameRandom(seed, 0).atoms(batch, probe).to(batch.positions.dtype)
        forward, reverse = _products(potential, batch, vectors)
        odd = odd + _squares(forward - reverse, batch)
        even = even + _squares(forward + reverse, batch)
    positions = batch.positions.detach().requires_grad_(True)
    energies, forces = potential(*batch.moved(positions).graph)
    (gradient,) = torch.autograd.grad([energies.sum()], [positions])
    squares = _squares(forces.detach() + gradient, batch)
    return Curl((odd / even).sqrt(), (squares / (3 * batch.n_atoms)).sqrt())


def _products(potential: DirectPotential, batch: Batch, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return J v and J^T v, each (N, 3)."""
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(batch.positions.detach(), vectors)
        _, forces = potential(*batch.moved(dual).graph)
        change = forward_ad.unpack_dual(forces).tangent
    positions = batch.positions.detach().requires_grad_(True)
    _, forces = potential(*batch.moved(positions).graph)
    (reverse,) = torch.autograd.grad([forces], [positions], [vectors])
    return change.detach(), reverse


def _squares(values: Tensor, batch: Batch) -> Tensor:
    squares = values.double().square().sum(-1)
    return sum_per_structure(squares, batch.structure_index, batch.n_structures).detach()
