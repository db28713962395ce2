"""Engine that integrates replicas in torch, on the device of the potential."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from piwsl.errors import EngineError
from piwsl.export.replica_evaluation import BoundReplicas
from piwsl.md.engines.base import EngineState, Snapshot, kinetic_energy, phase_seed
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom, inertial_masses
from piwsl.runs.json_text import json_text
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

# Size of a block of random numbers, bytes.
_DRAWN = 2**24


class NativeReplicas:
    """Engine with velocity Verlet (nve), Langevin middle (nvt-langevin) or a Nose-Hoover chain (nvt-nose-hoover).

    Each replica has a separate stream of random numbers, which does not depend on other replicas or on restarts. All
    numbers are in float64.

    Args:
        potential: Potential bound to the atoms of the structure.
        structure: Structure with the species, masses and cell of every replica.
        protocol: Protocol with time step, temperature, friction and seed.
        starts: Initial positions and velocities of each replica, by replica number.
        step: First step of the phase.
    """

    name = "native"
    force = "torch"
    force_reason = "the engine calls the potential directly"

    def __init__(
        self,
        potential: BoundReplicas,
        structure: Atoms,
        protocol: MDProtocol,
        starts: Mapping[int, Snapshot],
        step: int = 0,
    ) -> None:
        self._potential = potential
        self.ensemble: str = protocol.ensemble_at(step)
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._cell = np.array(structure.cell.array) if structure.pbc.any() else None
        masses = self._on_device(inertial_masses(structure))
        self._scheme = make_scheme(
            self.ensemble, protocol, len(starts), masses, protocol.temperature_at(step), self.degrees_of_freedom
        )
        self._numbers = list(starts)
        seeds = [phase_seed(protocol.seed_of(number), step, protocol.equilibration) for number in starts]
        self._streams = [np.random.default_rng(seed) for seed in seeds]
        self._positions = self._on_device(np.stack([start.positions for start in starts.values()]))
        self._velocities = self._on_device(np.stack([start.velocities for start in starts.values()]))
        self._forces: Tensor | None = None  # at the current positions; None: not evaluated yet
        self._energies = self._positions.new_zeros(len(starts))
        at_a_time = f"{potential.chunk} copies per call, {potential.threads} calls at a time"
        self.platform = f"torch on {potential.device.type}, {at_a_time}"

    @property
    def replicas(self) -> list[int]:
        """Numbers of the remaining replicas."""
        return list(self._numbers)

    def advance(self, steps: int) -> None:
        """Advance by a number of steps."""
        if not self._numbers:
            return
        forces = self._evaluated()
        block = max(1, _DRAWN // (8 * self._positions.numel()))
        for first in range(0, steps, block):
            for noise in self._noise(min(block, steps - first)):
                forces = self._scheme.step(self._positions, self._velocities, forces, noise, self._evaluate)

    def snapshots(self) -> list[Snapshot]:
        """Return positions and velocities; except in nve, velocities are half a step earlier than positions."""
        positions, velocities = self._positions.cpu().numpy(), self._velocities.cpu().numpy()
        return [Snapshot(x.copy(), v.copy(), self._cell) for x, v in zip(positions, velocities, strict=True)]

    def energies(self) -> list[Energies]:
        """Return the current energies; the potential energies come from the last force evaluation."""
        self._evaluated()
        potential, velocities = self._energies.tolist(), self._velocities.cpu().numpy()
        return [Energies(u, kinetic_energy(self._masses, v)) for u, v in zip(potential, velocities, strict=True)]

    def forces(self) -> FloatArray:
        """Return the current forces (R, n, 3)."""
        forces: FloatArray = self._evaluated().cpu().numpy().copy()
        return forces

    def state(self, replica: int) -> EngineState:
        """Return positions, velocities, thermostat variables and the random state of a replica."""
        place = self._numbers.index(replica)
        return {
            "positions": self._positions[place].cpu().numpy().copy(),
            "velocities": self._velocities[place].cpu().numpy().copy(),
            "thermostat": self._scheme.variables[place].cpu().numpy().copy(),
            "generator": np.array(json_text(self._streams[place].bit_generator.state)),
        }

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Continue replicas exactly from their states."""
        for replica, state in states.items():
            place = self._numbers.index(replica)
            self._positions[place] = self._on_device(state["positions"])
            self._velocities[place] = self._on_device(state["velocities"])
            self._scheme.variables[place] = self._on_device(state["thermostat"])
            self._streams[place].bit_generator.state = json.loads(str(state["generator"]))
        self._forces = None
        return True

    def reseed(self, replica: int, seed: int) -> None:
        """Reseed the random number generator of a replica."""
        self._streams[self._numbers.index(replica)] = np.random.default_rng(seed)

    def remove(self, replica: int) -> None:
        """Remove a replica."""
        place = self._numbers.index(replica)
        del self._numbers[place], self._streams[place]
        kept = [row for row in range(len(self._positions)) if row != place]
        self._energies, self._scheme.variables = self._energies[kept], self._scheme.variables[kept]
        self._positions, self._velocities = self._positions[kept], self._velocities[kept]
        self._forces = None if self._forces is None else self._forces[kept]

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K; no effect in nve."""
        self._scheme.set_temperature(temperature)

    def _evaluate(self, positions: Tensor) -> Tensor:
        """Evaluate the potential and return the forces."""
        self._forces = None  # invalid if the evaluation fails
        result = self._potential(positions)
        self._energies, self._forces = result.energies, result.forces
        return result.forces

    def _evaluated(self) -> Tensor:
        """Return the forces at the current positions; evaluate the potential if necessary."""
        return self._evaluate(self._positions) if self._forces is None else self._forces

    def _noise(self, steps: int) -> Tensor:
        """Return standard normal random numbers (steps, R, n, 3), or zeros (steps,) for deterministic schemes."""
        if not self._scheme.is_random:
            return self._positions.new_zeros(steps)
        shape = (steps, *self._positions.shape[1:])
        drawn = np.stack([stream.standard_normal(shape) for stream in self._streams], axis=1)
        return self._on_device(drawn)

    def _on_device(self, values: FloatArray) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._potential.device)


Forces = Callable[[Tensor], Tensor]
_LINKS = 3
_CENTER = -(2 ** (1 / 3)) / (2 - 2 ** (1 / 3))
_FOURTH_ORDER = ((1 - _CENTER) / 2, _CENTER, (1 - _CENTER) / 2)


class Scheme(Protocol):
    """Interface of an integration scheme, which performs one step for all replicas.

    Attributes:
        is_random: Whether a step uses random numbers.
        variables: Thermostat variables (R, k) of the replicas.
    """

    is_random: bool
    variables: Tensor

    def step(self, positions: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, of: Forces) -> Tensor:
        """Update positions and velocities in place, and return the new forces; ``of`` evaluates the forces."""

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the heat bath, K."""


class VelocityVerlet:
    """Velocity Verlet scheme at constant energy, with positions and velocities at the same time."""

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
        """Do nothing, because the scheme has no heat bath."""


class LangevinMiddle:
    """Langevin middle scheme, with velocities half a step earlier than positions.

    The heat bath acts in the middle of the drift, so that averages over positions are exact for harmonic forces (Zhang
    et al., J. Phys. Chem. A 123, 6056, 2019).
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
        """Set the temperature of the heat bath, K."""
        self._deviation = torch.sqrt(temperature * self._variance)


class NoseHooverMiddle:
    """Nose-Hoover chain in the leapfrog form, with velocities half a step earlier than positions.

    The chain (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635, 1992) is applied in the middle of the drift (Zhang
    et al., J. Chem. Phys. 147, 034109, 2017) and integrated with a fourth-order Suzuki-Yoshida factorization;
    ``variables`` holds the thermostat velocities (replicas, links), 1/fs.

    Args:
        replicas: Number of replicas.
        masses: Masses (n,), amu; infinite for fixed atoms.
        timestep: Time step, fs.
        time: Time constant of the chain, fs.
        temperature: Initial temperature of the heat bath, K.
        degrees_of_freedom: Number of kinetic degrees of freedom per replica.
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
        masses = masses.unsqueeze(1) / ACCELERATION
        self._masses = masses.where(masses.isfinite(), 0.0)  # fixed atoms have no kinetic energy
        self._half_step = 0.5 * timestep
        self._kick = timestep / masses
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
        """Set the temperature of the heat bath, K."""
        self._energy = BOLTZMANN * temperature
        self._inertia = [self._freedom * self._energy * self._square_time] + [self._energy * self._square_time] * (
            _LINKS - 1
        )

    def _factor(self, velocities: Tensor) -> Tensor:
        """Advance the chain by one step and return the scale factors (R,) for the velocities."""
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
        """Advance a link by half a substep, including the drag of the next link."""
        if link == 0:
            force = kinetic - self._freedom * self._energy
        else:
            force = self._inertia[link - 1] * links[link - 1].square() - self._energy
        drag = torch.exp(-0.25 * part * links[link + 1]) if link + 1 < _LINKS else 1.0
        links[link] = (links[link] * drag + 0.5 * part * force / self._inertia[link]) * drag


def make_scheme(
    ensemble: str, protocol: MDProtocol, replicas: int, masses: Tensor, temperature: float, degrees_of_freedom: int
) -> Scheme:
    """Create the integration scheme for an ensemble; masses (n,) are in amu and infinite for fixed atoms.

    Raises:
        EngineError: The ensemble is not supported.
    """
    timestep = protocol.timestep
    if ensemble == "nve":
        return VelocityVerlet(replicas, masses, timestep)
    if ensemble == "nvt-langevin":
        return LangevinMiddle(replicas, masses, timestep, protocol.friction, temperature)
    if ensemble == "nvt-nose-hoover":
        time = protocol.thermostat_time
        return NoseHooverMiddle(replicas, masses, timestep, time, temperature, degrees_of_freedom)
    raise EngineError(f"engine native does not support {ensemble}: choose nve, nvt-langevin or nvt-nose-hoover")
