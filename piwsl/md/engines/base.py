"""What a run asks of an engine."""

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
    """One run of one structure. All numbers in eV, angstrom, fs.

    Attributes:
        name: ``openmm`` or ``ase``.
        platform: what computes, in the engine's words.
        force: kind of force: ``TorchForce``, ``PythonForce`` or ``ASE``.
        force_reason: why this kind.
        ensemble: what it samples; an engine serves one phase of a run.
        degrees_of_freedom: that share the kinetic energy.
    """

    name: str
    platform: str
    force: str
    force_reason: str
    ensemble: str
    degrees_of_freedom: int

    def start(self, velocities: FloatArray) -> None:
        """Begin at the start structure with velocities (n, 3)."""

    def advance(self, steps: int) -> None:
        """Move on; raises EngineError where the engine fails."""

    def set_temperature(self, temperature: float) -> None:
        """Set thermostat and barostat, K."""

    def snapshot(self) -> Snapshot:
        """Where the atoms are; costs no evaluation of the potential."""

    def energies(self) -> Energies:
        """Energies now."""

    def forces(self) -> FloatArray:
        """Forces (n, 3) now."""

    def state(self) -> EngineState:
        """Everything the continuation depends on."""

    def restore(self, state: EngineState, seed: int) -> bool:
        """Go on from a state.

        Returns:
            True where the continuation is the one that would have come without interruption; False where only
            positions and velocities could be taken over and the thermostat draws anew from ``seed``.
        """

    def reseed(self, seed: int) -> None:
        """Draw other random numbers from now on, in ensembles that draw any."""


def kinetic_energy(masses: FloatArray, velocities: FloatArray) -> float:
    """Kinetic energy in eV of masses (n,) in amu and velocities (n, 3) in angstrom/fs."""
    return float(0.5 * np.einsum("i,ij,ij", masses, velocities, velocities) / ACCELERATION)


def temperature(kinetic: float, degrees_of_freedom: int) -> float:
    """Instantaneous temperature in K of a kinetic energy in eV."""
    return 2 * kinetic / (degrees_of_freedom * BOLTZMANN)


def split_seed(seed: int, purpose: int, step: int = 0) -> int:
    """A seed of its own for each purpose, between 1 and 2^31 - 1."""
    return int(np.random.SeedSequence([seed, purpose, step]).generate_state(1)[0]) % (2**31 - 1) + 1


def phase_seed(seed: int, step: int, equilibration: int) -> int:
    """A seed for the engine of a run that goes on from a step; equilibration has negative steps."""
    return split_seed(seed, 1, step) if step >= 0 else split_seed(seed, 3, step + equilibration)


class ReplicaEngine(Protocol):
    """Replicas of one structure, which move together and do not see each other. All numbers in eV, angstrom, fs.

    A replica keeps its number when others leave. Lists and arrays are in the order of ``replicas``.

    Attributes:
        name: ``openmm``, ``ase`` or ``native``.
        platform: what computes, in the engine's words.
        force: what calls the potential, such as ``TorchForce``.
        force_reason: why this.
        ensemble: what it samples; an engine serves one phase of a run.
        degrees_of_freedom: that share the kinetic energy of a replica.
    """

    name: str
    platform: str
    force: str
    force_reason: str
    ensemble: str
    degrees_of_freedom: int

    @property
    def replicas(self) -> list[int]:
        """Numbers of the R replicas that are left."""

    def advance(self, steps: int) -> None:
        """Move on; raises EngineError where the engine fails.

        A replica whose positions are no longer finite stays there and harms no other.
        """

    def set_temperature(self, temperature: float) -> None:
        """Set the thermostat of all replicas, K."""

    def snapshots(self) -> list[Snapshot]:
        """Where the atoms are; costs no evaluation of the potential."""

    def energies(self) -> list[Energies]:
        """Energies now."""

    def forces(self) -> FloatArray:
        """Forces (R, n, 3) now."""

    def state(self, replica: int) -> EngineState:
        """Everything the continuation of a replica depends on."""

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Let replicas go on from states.

        Returns:
            True where the continuation is the one that would have come without interruption; False where only
            positions and velocities could be taken over and the thermostat draws anew from the seeds.
        """

    def reseed(self, replica: int, seed: int) -> None:
        """Draw other random numbers from now on, in ensembles that draw any."""

    def remove(self, replica: int) -> None:
        """Take a replica out; what the others cost becomes less."""


class SingleReplica:
    """An engine of one structure behind the interface of `ReplicaEngine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.platform, self.ensemble = engine.name, engine.platform, engine.ensemble
        self.force, self.force_reason = engine.force, engine.force_reason
        self.degrees_of_freedom = engine.degrees_of_freedom
        self._left = [0]

    @property
    def replicas(self) -> list[int]:
        """The one there is."""
        return self._left

    def advance(self, steps: int) -> None:
        """Move on."""
        self.engine.advance(steps)

    def set_temperature(self, temperature: float) -> None:
        """Set thermostat and barostat, K."""
        self.engine.set_temperature(temperature)

    def snapshots(self) -> list[Snapshot]:
        """Of the one there is."""
        return [self.engine.snapshot()]

    def energies(self) -> list[Energies]:
        """Of the one there is."""
        return [self.engine.energies()]

    def forces(self) -> FloatArray:
        """Forces (1, n, 3) now."""
        return self.engine.forces()[None]

    def state(self, replica: int) -> EngineState:
        """Everything the continuation depends on."""
        return self.engine.state()

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Go on from a state."""
        return self.engine.restore(states[0], seeds[0])

    def reseed(self, replica: int, seed: int) -> None:
        """Draw other random numbers from now on."""
        self.engine.reseed(seed)

    def remove(self, replica: int) -> None:
        """End."""
        self._left = []
