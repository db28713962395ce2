"""What a run works with, once its configuration has been checked against data and machine."""

from dataclasses import dataclass
from pathlib import Path

import torch

from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames
from piwsl.training.distributed.processes import Processes
from piwsl.training.loader import BatchShard


@dataclass(frozen=True)
class Setup:
    """A run in this process.

    Attributes:
        config: everything that decides the run.
        frames: its frames by purpose.
        output: its directory.
        processes: that work on it.
        device: of this process.
        share: of each batch that this process computes.
    """

    config: TrainingConfig
    frames: TrainingFrames
    output: Path
    processes: Processes
    device: torch.device
    share: BatchShard

    def words(self) -> str:
        """Where the run computes."""
        if self.processes.count == 1:
            return self.device.type
        machines = f" on {self.processes.nodes} machines" if self.processes.nodes > 1 else ""
        return f"{self.processes.count} {self.device.type} processes{machines}"
