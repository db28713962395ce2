"""One copy as a batch of one, so that the loop of a run knows batches only."""

from piwsl.md.engines.base import Energies, Engine, EngineState, Snapshot
from piwsl.typing import FloatArray


class SingleCopy:
    """An engine of one structure behind the interface of `ReplicaEngine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.copies = [0]

    def advance(self, steps: int) -> None:
        """Move on."""
        self.engine.advance(steps)

    def set_temperature(self, temperature: float) -> None:
        """Set thermostat and barostat, K."""
        self.engine.set_temperature(temperature)

    def snapshots(self) -> list[Snapshot]:
        """The one there is."""
        return [self.engine.snapshot()]

    def energies(self) -> list[Energies]:
        """The one there is."""
        return [self.engine.energies()]

    def forces(self) -> FloatArray:
        """Forces (1, n, 3) now."""
        return self.engine.forces()[None]

    def state(self, copy: int) -> EngineState:
        """Everything the continuation depends on."""
        return self.engine.state()

    def restore(self, copy: int, state: EngineState, seed: int) -> bool:
        """Go on from a state."""
        return self.engine.restore(state, seed)

    def reseed(self, copy: int, seed: int) -> None:
        """Draw other random numbers from now on."""
        self.engine.reseed(seed)

    def remove(self, copy: int) -> None:
        """End."""
        self.copies = []
