"""Time steps of many replicas as tensor operations: velocity Verlet, and Langevin dynamics.

Positions (R, n, 3) angstrom, velocities angstrom/fs, forces eV/angstrom, all float64. Products and sums are separate
operations, so that a number does not depend on its place in an array.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from piwsl.errors import EngineError
from piwsl.md.protocol import MDProtocol
from piwsl.units import ACCELERATION, BOLTZMANN

Forces = Callable[[Tensor], Tensor]


class Scheme(Protocol):
    """One step of all replicas.

    Attributes:
        is_random: whether a step takes normal random numbers.
    """

    is_random: bool

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """Change positions and velocities; the forces at the new positions, which ``of`` gives, are returned."""

    def set_temperature(self, temperature: float) -> None:
        """Of the heat bath, K."""


class VelocityVerlet:
    """Constant energy; positions and velocities are of the same time."""

    is_random = False

    def __init__(self, masses: Tensor, timestep: float) -> None:
        self._timestep = timestep
        self._half_kick = 0.5 * timestep * ACCELERATION / masses.unsqueeze(1)

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """See `Scheme`."""
        velocities += self._half_kick * forces
        positions += self._timestep * velocities
        forces = of(positions)
        velocities += self._half_kick * forces
        return forces

    def set_temperature(self, temperature: float) -> None:
        """There is no heat bath."""


class LangevinMiddle:
    """Langevin dynamics; velocities are half a step behind the positions.

    Zhang et al., J. Phys. Chem. A 123, 6056 (2019): the bath acts in the middle of the drift, which makes averages over
    positions exact for harmonic forces.
    """

    is_random = True

    def __init__(self, masses: Tensor, timestep: float, friction: float, temperature: float) -> None:
        self._half_step = 0.5 * timestep
        self._kick = timestep * ACCELERATION / masses.unsqueeze(1)
        self._kept = math.exp(-friction * timestep)
        self._variance = (1.0 - math.exp(-2.0 * friction * timestep)) * BOLTZMANN * ACCELERATION / masses.unsqueeze(1)
        self.set_temperature(temperature)

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """See `Scheme`."""
        velocities += self._kick * forces
        positions += self._half_step * velocities
        velocities *= self._kept
        velocities += self._deviation * noise
        positions += self._half_step * velocities
        return of(positions)

    def set_temperature(self, temperature: float) -> None:
        """Of the heat bath, K."""
        self._deviation = torch.sqrt(temperature * self._variance)


def make_scheme(ensemble: str, protocol: MDProtocol, masses: Tensor, temperature: float) -> Scheme:
    """The scheme of an ensemble for masses (n,) in amu.

    Raises:
        EngineError: there is none.
    """
    if ensemble == "nve":
        return VelocityVerlet(masses, protocol.timestep)
    if ensemble == "nvt-langevin":
        return LangevinMiddle(masses, protocol.timestep, protocol.friction, temperature)
    raise EngineError(f"replicas run in nve or nvt-langevin, not in {ensemble}")
