"""The interfaces of engines, and the energies, temperatures and seeds that they share."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

# Arrays by name, as a restart state stores them.
EngineState = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """Positions (n, 3) in angstrom, velocities (n, 3) in angstrom/fs, cell (3, 3) of a periodic structure.

    Atoms are not wrapped into the cell.
    """

    positions: FloatArray
    velocities: FloatArray
    cell: FloatArray | None = None


class Engine(Protocol):
    """An engine for one phase of a run of one structure. All numbers in eV, angstrom, fs.

    Attributes:
        name: ``openmm`` or ``ase``.
        platform: device or OpenMM platform.
        force: kind of force: ``TorchForce``, ``PythonForce`` or ``ASE``.
        force_reason: why this kind was chosen.
        ensemble: ensemble of the phase.
        degrees_of_freedom: number of kinetic degrees of freedom.
    """

    name: str
    platform: str
    force: str
    force_reason: str
    ensemble: str
    degrees_of_freedom: int

    def start(self, velocities: FloatArray) -> None:
        """Start from the start structure with velocities (n, 3)."""

    def advance(self, steps: int) -> None:
        """Advance by a number of steps; raises EngineError where the engine fails."""

    def set_temperature(self, temperature: float) -> None:
        """Set thermostat and barostat, K."""

    def snapshot(self) -> Snapshot:
        """Return the current positions and velocities, without an evaluation of the potential."""

    def energies(self) -> Energies:
        """Return the current energies."""

    def forces(self) -> FloatArray:
        """Return the current forces (n, 3)."""

    def state(self) -> EngineState:
        """Return everything on which the continuation depends."""

    def restore(self, state: EngineState, seed: int) -> bool:
        """Continue from a state.

        Returns:
            True where the continuation equals that of an uninterrupted run; False where only positions and velocities
            are restored and the thermostat draws new random numbers from ``seed``.
        """

    def reseed(self, seed: int) -> None:
        """Reseed the random number generator, in ensembles that use one."""


def kinetic_energy(masses: FloatArray, velocities: FloatArray) -> float:
    """Return the kinetic energy in eV of masses (n,) in amu and velocities (n, 3) in angstrom/fs."""
    return float(0.5 * np.einsum("i,ij,ij", masses, velocities, velocities) / ACCELERATION)


def temperature(kinetic: float, degrees_of_freedom: int) -> float:
    """Return the instantaneous temperature in K of a kinetic energy in eV."""
    return 2 * kinetic / (degrees_of_freedom * BOLTZMANN)


def split_seed(seed: int, purpose: int, step: int = 0) -> int:
    """Return a separate seed for each purpose, between 1 and 2^31 - 1."""
    return int(np.random.SeedSequence([seed, purpose, step]).generate_state(1)[0]) % (2**31 - 1) + 1


def phase_seed(seed: int, step: int, equilibration: int) -> int:
    """Return the seed of an engine that continues from a step; equilibration has negative steps."""
    return split_seed(seed, 1, step) if step >= 0 else split_seed(seed, 3, step + equilibration)


class ReplicaEngine(Protocol):
    """An engine for replicas of one structure, which do not interact. All numbers in eV, angstrom, fs.

    A replica keeps its number when others are removed. Lists and arrays are in the order of ``replicas``.

    Attributes:
        name: ``openmm``, ``ase`` or ``native``.
        platform: device or OpenMM platform.
        force: what calls the potential, such as ``TorchForce``.
        force_reason: why it was chosen.
        ensemble: ensemble of the phase.
        degrees_of_freedom: number of kinetic degrees of freedom per replica.
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
        """Advance by a number of steps; raises EngineError where the engine fails.

        A replica whose positions are not finite stays as it is and does not affect the others.
        """

    def set_temperature(self, temperature: float) -> None:
        """Set the thermostat of all replicas, K."""

    def snapshots(self) -> list[Snapshot]:
        """Return the current positions and velocities, without an evaluation of the potential."""

    def energies(self) -> list[Energies]:
        """Return the current energies."""

    def forces(self) -> FloatArray:
        """Return the current forces (R, n, 3)."""

    def state(self, replica: int) -> EngineState:
        """Return everything on which the continuation of a replica depends."""

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Continue replicas from their states.

        Returns:
            True where the continuation equals that of an uninterrupted run; False where only positions and velocities
            are restored and the thermostat draws new random numbers from the seeds.
        """

    def reseed(self, replica: int, seed: int) -> None:
        """Reseed the random number generator of a replica, in ensembles that use one."""

    def remove(self, replica: int) -> None:
        """Remove a replica; later steps do not evaluate it."""


class SingleReplica:
    """An engine of one structure behind the interface of `ReplicaEngine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.platform, self.ensemble = engine.name, engine.platform, engine.ensemble
        self.force, self.force_reason = engine.force, engine.force_reason
        self.degrees_of_freedom = engine.degrees_of_freedom
        self._remaining = [0]

    @property
    def replicas(self) -> list[int]:
        """Number of the single replica, or none after `remove`."""
        return self._remaining

    def advance(self, steps: int) -> None:
        """Advance by a number of steps."""
        self.engine.advance(steps)

    def set_temperature(self, temperature: float) -> None:
        """Set thermostat and barostat, K."""
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
        """Return everything on which the continuation depends."""
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
