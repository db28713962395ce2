"""Preparation of a training run: everything between the configuration with its frames and the first step."""

from dataclasses import dataclass
from pathlib import Path

import torch

from piwsl.models.neighbor_sums.edge_list import use_neighbor_sums
from piwsl.models.neighbor_sums.training import training_neighbor_sums
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames, fitting_loss
from piwsl.training.distributed.processes import Processes
from piwsl.training.fit import Setup
from piwsl.training.loader import share_of_process
from piwsl.training.objective import build_objective
from piwsl.training.start import StartingPoint, starting_potential
from piwsl.training.task import TrainingTask


@dataclass(frozen=True, eq=False)
class Preparation:
    """Training run before its first step.

    Attributes:
        setup: Settings of the run in this process.
        start: Potential with initial weights.
        task: Training task.
        neighbor_sums: Description of the computation of sums over neighbors.
    """

    setup: Setup
    start: StartingPoint
    task: TrainingTask
    neighbor_sums: str

    @property
    def facts(self) -> list[str]:
        """Network, device and neighbor sums, one per line."""
        weights = sum(weight.numel() for weight in self.start.potential.parameters())
        return [
            f"network: {self.setup.config.model.network}, {weights} weights",
            f"computed on: {self.setup.describe_device()}",
            f"neighbor sums: {self.neighbor_sums}",
        ]


def prepare(
    config: TrainingConfig, frames: TrainingFrames, output: Path, processes: Processes, device: torch.device
) -> Preparation:
    """Build the initial potential and the training task of a run. Nothing is written.

    Args:
        config: Complete training configuration.
        frames: Training, validation and test frames.
        output: Run directory.
        processes: Processes of the run.
        device: Device of this process.

    Raises:
        ConfigError: The configuration does not fit the frames, the start or the number of processes.
    """
    setup = Setup(config, frames, output, processes, device, share_of_process(config, frames, processes))
    torch.manual_seed(config.seed)
    start = starting_potential(config, frames)
    neighbor_sums, reason = training_neighbor_sums(device, config.mixed_precision)
    use_neighbor_sums(start.potential.network, neighbor_sums)
    objective = build_objective(fitting_loss(config.loss, frames), config.displacement)
    task = TrainingTask(start.potential, objective, config.optimizer, config.seed)
    return Preparation(setup, start, task, reason)
