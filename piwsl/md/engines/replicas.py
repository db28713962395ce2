"""What a run of many replicas asks of an engine."""

from typing import Protocol

from piwsl.md.engines.base import Energies, EngineState, Snapshot, split_seed
from piwsl.typing import FloatArray


class ReplicaEngine(Protocol):
    """Many runs of one structure at once, each by itself. All numbers in eV, angstrom, fs.

    Replicas have numbers from 0 on, which they keep when others leave. All lists and arrays are in the order of
    ``replicas``.

    Attributes:
        name: ``native`` or ``openmm``.
        platform: what computes, in words.
        force: what calls the potential.
        force_reason: why.
    """

    name: str
    platform: str
    force: str
    force_reason: str

    @property
    def replicas(self) -> list[int]:
        """Numbers of the R replicas that are there."""

    def start(self, velocities: FloatArray) -> None:
        """Begin at the start structure with velocities (R, n, 3)."""

    def advance(self, steps: int) -> None:
        """Move on; a replica that is no longer finite stays there and harms no other."""

    def snapshots(self) -> list[Snapshot]:
        """Where the atoms are; costs no evaluation of the potential."""

    def energies(self) -> list[Energies]:
        """Energies now."""

    def forces(self) -> FloatArray:
        """Forces (R, n, 3) now."""

    def state(self, replica: int) -> EngineState:
        """Everything the continuation of a replica depends on."""

    def restore(self, replica: int, state: EngineState, seed: int) -> bool:
        """Let a replica go on from a state.

        Returns:
            True where the continuation is the one that would have come without interruption; False where only
            positions and velocities could be taken over and the thermostat draws anew from ``seed``.
        """

    def remove(self, replica: int) -> None:
        """Take a replica out; what the others cost becomes less."""

    def set_temperature(self, kelvin: float) -> None:
        """Of the thermostat of all replicas, K; no effect in nve."""


def replica_seeds(seed: int, count: int) -> list[int]:
    """A seed for each replica: with it, one run alone draws what the replica draws among others."""
    return [split_seed(seed, 2, number) for number in range(count)]
