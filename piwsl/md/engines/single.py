"""One structure as a single replica, so that the loop of a run knows replicas only."""

from piwsl.md.engines.base import Energies, Engine, EngineState, Snapshot
from piwsl.typing import FloatArray


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
