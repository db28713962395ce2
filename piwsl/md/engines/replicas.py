"""What the loop of a run asks of an engine of several copies."""

from typing import Protocol

from piwsl.md.engines.base import Energies, EngineState, Snapshot
from piwsl.typing import FloatArray


class ReplicaEngine(Protocol):
    """Copies of one structure that move together and do not see each other.

    Attributes:
        copies: numbers of the copies that are left; lists and arrays below follow it.
    """

    copies: list[int]

    def advance(self, steps: int) -> None:
        """Move on; raises EngineError where the engine fails."""

    def set_temperature(self, temperature: float) -> None:
        """Set the thermostat, K."""

    def snapshots(self) -> list[Snapshot]:
        """Where the atoms are."""

    def energies(self) -> list[Energies]:
        """Energies now."""

    def forces(self) -> FloatArray:
        """Forces (copies, n, 3) now."""

    def state(self, copy: int) -> EngineState:
        """Everything the continuation of a copy depends on."""

    def restore(self, copy: int, state: EngineState, seed: int) -> bool:
        """Go on from a state, as an engine of one copy does."""

    def reseed(self, copy: int, seed: int) -> None:
        """Draw other random numbers from now on."""

    def remove(self, copy: int) -> None:
        """Let a copy leave; the others go on as if nothing had happened."""
