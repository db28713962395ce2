"""Preparation of a training run: everything between the configuration with its frames and the first step."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from piwsl.errors import ConfigError
from piwsl.models import ModelConfig
from piwsl.models.training_loops import training_neighbor_sums, use_in_training
from piwsl.training.blocks import rate_factors
from piwsl.training.config import GAUSS_NEWTON, TrainingConfig
from piwsl.training.data_checks import fitting_loss
from piwsl.training.directory import REPLAY_FILE
from piwsl.training.distributed.process_group import from_rank_zero
from piwsl.training.distributed.processes import Processes
from piwsl.training.fit import Setup
from piwsl.training.frames import FEW_LABELS, TrainingFrames
from piwsl.training.loader import share_of_process
from piwsl.training.objective import build_contrast, build_objective, monitored_loss
from piwsl.training.presets import loss_line
from piwsl.training.replay import given_structures, replay_count, replay_frames, replay_line, stored_replay
from piwsl.training.start import StartingPoint, starting_potential
from piwsl.training.task import TrainingTask
from piwsl.training.teacher import LoadedTeacher
from piwsl.training.walls import walls_lines, with_measured_walls


@dataclass(frozen=True, eq=False)
class Preparation:
    """Training run before its first step.

    Attributes:
        setup: Settings of the run in this process.
        start: Potential with initial weights.
        task: Training task.
        neighbor_sums: Description of the computation of sums over neighbors.
        trial: Whether the replay frames are only a part of those of the run.
    """

    setup: Setup
    start: StartingPoint
    task: TrainingTask
    neighbor_sums: str
    trial: bool = False

    @property
    def facts(self) -> list[str]:
        """Replay frames, learning rates by block, network, device and neighbor sums, one per line."""
        rates = {}
        if self.task.layer_decay != 1.0:
            rates = rate_factors(self.start.potential.network, self.task.layer_decay)
        weights = sum(weight.numel() for weight in self.start.potential.parameters())
        replay = self.setup.replay
        return [
            *([replay_line(self.setup.config, None if self.trial else replay)] if replay is not None else []),
            *([f"rates: {', '.join(f'{name} x {rate:.3g}' for name, rate in rates.items())}"] if rates else []),
            f"network: {self.setup.config.model.network}, {weights} weights",
            *_better_network(self.setup.config, self.setup.frames),
            *([loss_line(self.setup.config)] if self.setup.config.start.training_method != GAUSS_NEWTON else []),
            *walls_lines(self.setup.config),
            f"computed on: {self.setup.describe_device()}",
            f"neighbor sums: {self.neighbor_sums}",
        ]


def prepare(
    config: TrainingConfig,
    frames: TrainingFrames,
    output: Path,
    processes: Processes,
    device: torch.device,
    teacher: LoadedTeacher | None = None,
    resumed: bool = False,
    most_replay: int | None = None,
) -> Preparation:
    """Build the initial potential and the training task of a run. Nothing is written.

    Args:
        config: Complete training configuration.
        frames: Training, validation and test frames.
        output: Run directory.
        processes: Processes of the run.
        device: Device of this process.
        teacher: Teacher of the loss terms that learn from one.
        resumed: Use the replay frames that an earlier session stored in the run directory.
        most_replay: Largest number of replay frames, for a trial; None for all.

    Raises:
        ConfigError: The configuration does not fit the frames, the start or the number of processes.
    """
    share = share_of_process(config, frames, processes)
    check_monitor(config, frames)
    structures = replay = None
    if replay_count(config):
        replay = stored_replay(output / REPLAY_FILE) if resumed else None
        structures = replay or given_structures(config, most_replay)
    torch.manual_seed(config.seed)
    config = with_measured_walls(config, frames, structures)
    config = _with_elements(config, {*frames.train.elements, *frames.validation.elements})
    start = starting_potential(config, frames, structures.elements if structures is not None else ())
    neighbor_sums, reason = training_neighbor_sums(device, config.mixed_precision)
    use_in_training(start.potential.network, neighbor_sums)
    if teacher is not None:
        teacher.use_neighbor_sums(neighbor_sums)
    if replay_count(config) and replay is None:
        replay = from_rank_zero(
            lambda: replay_frames(config, structures, frames.main, start.potential, device, most_replay)
        )
    labeled = fitting_loss(config.loss, frames.labels["training"])  # validation frames have the main level
    fitted = fitting_loss(config.loss, frames.all_labels)
    if replay is not None:  # Replay frames have an energy and forces.
        fitted = config.loss.model_copy(update={"stress": fitted.stress})
    taught = (config.displacement, frames.spread, None if teacher is None else teacher.teacher, config.teacher)
    task = TrainingTask(
        start.potential,
        build_objective(fitted, *taught),
        config.optimizer,
        config.seed,
        build_objective(monitored_loss(labeled, config.optimizer.monitor), *taught),
        config.start.layer_decay,
        build_contrast(config, frames.train, processes.rank, processes.count),
    )
    setup = Setup(config, frames, output, processes, device, share, replay, teacher)
    return Preparation(setup, start, task, reason, most_replay is not None)


def _better_network(config: TrainingConfig, frames: TrainingFrames) -> list[str]:
    """Return a line about another network for molecules with few labels, if there is neither a start nor a teacher."""
    usual = config.model.network == ModelConfig().network and config.model.forces == "conservative"
    alone = config.start.init_from is None and config.teacher.file is None
    count, periodic = frames.labels["training"].forces, frames.main.census.periodic.any()
    if not (usual and alone and 0 < count <= FEW_LABELS) or periodic:
        return []
    return [
        f"few labels: with {count} frames, model.network=ace has smaller errors; `piwsl learn --labels FILE "
        "--budget 0` trains an accurate teacher, and a model as fast as this one on its predictions"
    ]


def _with_elements(config: TrainingConfig, elements: Iterable[int]) -> TrainingConfig:
    """Return the configuration with the elements of the frames, for networks with an empty option ``elements``."""
    if config.start.init_from is not None or config.model.options.get("elements") != ():
        return config
    model = config.model.model_copy(update={"elements": tuple(sorted(elements))})
    return config.model_copy(update={"model": model})


def check_monitor(config: TrainingConfig, frames: TrainingFrames) -> None:
    """Raise an error if the frames lack the label of ``optimizer.monitor``.

    Raises:
        ConfigError: No validation frame has the label, or no training frame has it, so that hidden labels would select
            the weights.
    """
    monitor = config.optimizer.monitor
    if monitor == "loss":
        return
    for purpose in ("training", "validation"):
        counts = frames.labels[purpose]
        if not {"energy": counts.energies, "forces": counts.forces}[monitor]:
            label = "an energy" if monitor == "energy" else "forces"
            raise ConfigError(f"optimizer.monitor: {monitor}: no {purpose} frame has {label}: set it to loss")
