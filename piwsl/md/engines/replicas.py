"""What the loop of a run asks of an engine of one structure or many."""

from typing import Protocol

from piwsl.md.engines.base import Energies, EngineState, Snapshot
from piwsl.typing import FloatArray


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
