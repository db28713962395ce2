"""Interfaces of engines, and common functions for energies, temperatures and seeds."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

# Arrays by name, as stored in a restart state.
EngineState = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """Positions and velocities at a step. Atoms are not wrapped into the cell.

    Attributes:
        positions: Positions (n, 3), angstrom.
        velocities: Velocities (n, 3), angstrom/fs.
        cell: Cell vectors (3, 3), angstrom; None for a structure that is not periodic.
    """

    positions: FloatArray
    velocities: FloatArray
    cell: FloatArray | None = None


class Engine(Protocol):
    """Interface of an engine for one phase of a run of one structure. Units are eV, angstrom and fs.

    Attributes:
        name: ``openmm`` or ``ase``.
        platform: Device or OpenMM platform.
        force: Kind of force: ``TorchForce``, ``PythonForce`` or ``ASE``.
        force_reason: Reason for the choice of this kind.
        ensemble: Ensemble of the phase.
        degrees_of_freedom: Number of kinetic degrees of freedom.
    """

    name: str
    platform: str
    force: str
    force_reason: str
    ensemble: str
    degrees_of_freedom: int

    def start(self, velocities: FloatArray) -> None:
        """Set the start structure and velocities (n, 3)."""

    def advance(self, steps: int) -> None:
        """Advance by a number of steps.

        Raises:
            EngineError: The engine failed.
        """

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of thermostat and barostat, K."""

    def snapshot(self) -> Snapshot:
        """Return the current positions and velocities without evaluating the potential."""

    def energies(self) -> Energies:
        """Return the current energies."""

    def forces(self) -> FloatArray:
        """Return the current forces (n, 3)."""

    def state(self) -> EngineState:
        """Return all arrays that determine the continuation of the run."""

    def restore(self, state: EngineState, seed: int) -> bool:
        """Continue from a state.

        Returns:
            True if the continuation is identical to an uninterrupted run; False if only positions and velocities are
            restored and the thermostat draws new random numbers from ``seed``.
        """

    def reseed(self, seed: int) -> None:
        """Reseed the random number generator; no effect in deterministic ensembles."""


def kinetic_energy(masses: FloatArray, velocities: FloatArray) -> float:
    """Return the kinetic energy in eV for masses (n,) in amu and velocities (n, 3) in angstrom/fs."""
    return float(0.5 * np.einsum("i,ij,ij", masses, velocities, velocities) / ACCELERATION)


def temperature(kinetic: float, degrees_of_freedom: int) -> float:
    """Return the instantaneous temperature in K for a kinetic energy in eV."""
    return 2 * kinetic / (degrees_of_freedom * BOLTZMANN)


def split_seed(seed: int, purpose: int, step: int = 0) -> int:
    """Return a separate seed for each purpose, between 1 and 2^31 - 1."""
    return int(np.random.SeedSequence([seed, purpose, step]).generate_state(1)[0]) % (2**31 - 1) + 1


def phase_seed(seed: int, step: int, equilibration: int) -> int:
    """Return the seed for an engine that starts at a step; steps of equilibration are negative."""
    return split_seed(seed, 1, step) if step >= 0 else split_seed(seed, 3, step + equilibration)


class ReplicaEngine(Protocol):
    """Interface of an engine for replicas of one structure, which do not interact. Units are eV, angstrom and fs.

    A replica keeps its number when other replicas are removed. Lists and arrays are in the order of ``replicas``.

    Attributes:
        name: ``openmm``, ``ase`` or ``native``.
        platform: Device or OpenMM platform.
        force: Kind of force that calls the potential, such as ``TorchForce``.
        force_reason: Reason for the choice of this kind.
        ensemble: Ensemble of the phase.
        degrees_of_freedom: Number of kinetic degrees of freedom per replica.
    """

    name: str
    platform: str
    force: str
    force_reason: str
    ensemble: str
    degrees_of_freedom: int

    @property
    def replicas(self) -> list[int]:
        """Numbers of the R remaining replicas."""

    def advance(self, steps: int) -> None:
        """Advance by a number of steps.

        A replica with positions that are not finite is not moved and does not affect the other replicas.

        Raises:
            EngineError: The engine failed.
        """

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat for all replicas, K."""

    def snapshots(self) -> list[Snapshot]:
        """Return the current positions and velocities without evaluating the potential."""

    def energies(self) -> list[Energies]:
        """Return the current energies."""

    def forces(self) -> FloatArray:
        """Return the current forces (R, n, 3)."""

    def state(self, replica: int) -> EngineState:
        """Return all arrays that determine the continuation of a replica."""

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Continue replicas from their states.

        Returns:
            True if the continuation is identical to an uninterrupted run; False if only positions and velocities are
            restored and the thermostat draws new random numbers from ``seeds``.
        """

    def reseed(self, replica: int, seed: int) -> None:
        """Reseed the random number generator of a replica; no effect in deterministic ensembles."""

    def remove(self, replica: int) -> None:
        """Remove a replica; later steps do not evaluate it."""


class SingleReplica:
    """Adapter that provides the interface of `ReplicaEngine` for an engine of one structure."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.platform, self.ensemble = engine.name, engine.platform, engine.ensemble
        self.force, self.force_reason = engine.force, engine.force_reason
        self.degrees_of_freedom = engine.degrees_of_freedom
        self._remaining = [0]

    @property
    def replicas(self) -> list[int]:
        """List with the number of the single replica; empty after `remove`."""
        return self._remaining

    def advance(self, steps: int) -> None:
        """Advance by a number of steps."""
        self.engine.advance(steps)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of thermostat and barostat, K."""
        self.engine.set_temperature(temperature)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshot of the single replica."""
        return [self.engine.snapshot()]

    def energies(self) -> list[Energies]:
        """Return the energies of the single replica."""
        return [self.engine.energies()]

    def forces(self) -> FloatArray:
        """Return the current forces (1, n, 3)."""
        return self.engine.forces()[None]

    def state(self, replica: int) -> EngineState:
        """Return all arrays that determine the continuation of the run."""
        return self.engine.state()

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Continue from a state."""
        return self.engine.restore(states[0], seeds[0])

    def reseed(self, replica: int, seed: int) -> None:
        """Reseed the random number generator."""
        self.engine.reseed(seed)

    def remove(self, replica: int) -> None:
        """Remove the single replica."""
        self._remaining = []
