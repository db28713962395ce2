"""Time steps of many replicas as tensor operations: velocity Verlet, Langevin dynamics, and a Nose-Hoover chain.

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
_LINKS = 3
_CENTRE = -(2 ** (1 / 3)) / (2 - 2 ** (1 / 3))
_FOURTH_ORDER = ((1 - _CENTRE) / 2, _CENTRE, (1 - _CENTRE) / 2)


class Scheme(Protocol):
    """One step of all replicas.

    Attributes:
        is_random: whether a step takes normal random numbers.
        variables: (R, k) of the thermostat of each replica.
    """

    is_random: bool
    variables: Tensor

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """Change positions and velocities; the forces at the new positions, which ``of`` gives, are returned."""

    def set_temperature(self, temperature: float) -> None:
        """Of the heat bath, K."""


class VelocityVerlet:
    """Constant energy; positions and velocities are of the same time."""

    is_random = False

    def __init__(self, replicas: int, masses: Tensor, timestep: float) -> None:
        self.variables = masses.new_zeros(replicas, 0)
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

    def __init__(self, replicas: int, masses: Tensor, timestep: float, friction: float, temperature: float) -> None:
        self.variables = masses.new_zeros(replicas, 0)
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


class NoseHooverMiddle:
    """Dynamics with a Nose-Hoover chain; velocities are half a step behind the positions.

    The chain (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635, 1992) acts in the middle of the drift (Zhang et
    al., J. Chem. Phys. 147, 034109, 2017), by factors of fourth order (Suzuki and Yoshida). ``variables`` are the
    velocities of its links, 1/fs.

    Args:
        replicas: R.
        masses: (n,) amu.
        timestep: fs.
        time: on which the chain acts, fs.
        temperature: K.
        degrees_of_freedom: that share the kinetic energy of a replica.
    """

    is_random = False

    def __init__(
        self,
        replicas: int,
        masses: Tensor,
        timestep: float,
        time: float,
        temperature: float,
        degrees_of_freedom: int,
    ) -> None:
        self.variables = masses.new_zeros(replicas, _LINKS)
        self._masses = masses.unsqueeze(1) / ACCELERATION
        self._half_step = 0.5 * timestep
        self._kick = timestep / self._masses
        self._parts = [timestep * weight for weight in _FOURTH_ORDER]
        self._square_time = time**2
        self._freedom = degrees_of_freedom
        self.set_temperature(temperature)

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """See `Scheme`."""
        velocities += self._kick * forces
        positions += self._half_step * velocities
        velocities *= self._factor(velocities)[:, None, None]
        positions += self._half_step * velocities
        return of(positions)

    def set_temperature(self, temperature: float) -> None:
        """Of the heat bath, K."""
        self._energy = BOLTZMANN * temperature
        self._inertia = [self._freedom * self._energy * self._square_time] + [self._energy * self._square_time] * (
            _LINKS - 1
        )

    def _factor(self, velocities: Tensor) -> Tensor:
        """(R,) by which the chain changes velocities in a step; it moves on itself."""
        kinetic = (self._masses * velocities.square()).sum((1, 2))  # twice the kinetic energy
        links = list(self.variables.unbind(1))
        factor = torch.ones_like(kinetic)
        for part in self._parts:
            for link in reversed(range(_LINKS)):
                self._push(links, link, kinetic * factor.square(), part)
            factor = factor * torch.exp(-part * links[0])
            for link in range(_LINKS):
                self._push(links, link, kinetic * factor.square(), part)
        self.variables = torch.stack(links, 1)
        return factor

    def _push(self, links: list[Tensor], link: int, kinetic: Tensor, part: float) -> None:
        """Half a part of the step of a link, slowed by the one after it."""
        if link == 0:
            force = kinetic - self._freedom * self._energy
        else:
            force = self._inertia[link - 1] * links[link - 1].square() - self._energy
        drag = torch.exp(-0.25 * part * links[link + 1]) if link + 1 < _LINKS else 1.0
        links[link] = (links[link] * drag + 0.5 * part * force / self._inertia[link]) * drag


def make_scheme(
    ensemble: str, protocol: MDProtocol, replicas: int, masses: Tensor, temperature: float, degrees_of_freedom: int
) -> Scheme:
    """The scheme of an ensemble for masses (n,) in amu.

    Raises:
        EngineError: there is none.
    """
    timestep = protocol.timestep
    if ensemble == "nve":
        return VelocityVerlet(replicas, masses, timestep)
    if ensemble == "nvt-langevin":
        return LangevinMiddle(replicas, masses, timestep, protocol.friction, temperature)
    if ensemble == "nvt-nose-hoover":
        time = protocol.thermostat_time
        return NoseHooverMiddle(replicas, masses, timestep, time, temperature, degrees_of_freedom)
    raise EngineError(f"replicas do not run in {ensemble}")
