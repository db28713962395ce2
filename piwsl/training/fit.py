"""The Lightning trainer of a run, and what it works with."""

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from piwsl.runs.files import atomic_path
from piwsl.runs.interruption import hangup_as_termination
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames
from piwsl.training.directory import CHECKPOINTS, metrics_name
from piwsl.training.distributed.processes import LaunchedEnvironment, Processes
from piwsl.training.loader import Batches, BatchShard
from piwsl.training.task import TrainingTask


@dataclass(frozen=True)
class Setup:
    """A run in this process, once its configuration was checked against data and machine.

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

    def describe_device(self) -> str:
        """Describe where the run computes."""
        if self.processes.count == 1:
            return self.device.type
        machines = f" on {self.processes.nodes} machines" if self.processes.nodes > 1 else ""
        return f"{self.processes.count} {self.device.type} processes{machines}"


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights whose memory grows with the steps taken, up to ``decay``.

    The growing memory lets early validations see trained weights rather than the first random ones.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Any, current: Any, count: Tensor | int) -> None:
            memory = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
            get_ema_multi_avg_fn(memory)(averaged, current, count)

        super().__init__(use_buffers=False, multi_avg_fn=average)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a kill at any moment leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside the target, then move."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


@dataclass(frozen=True)
class TrainingProgress:
    """State of a run, as passed to a progress callback; errors are those of the latest validation (eV, angstrom)."""

    step: int
    steps: int
    loss: float
    losses: dict[str, float]
    validation_energy_mae: float | None
    validation_force_mae: float | None
    validation_loss: float | None
    seconds_left: float


class ProgressCallback(Callback):
    """Calls back after every step."""

    def __init__(self, report: Callable[[TrainingProgress], None]) -> None:
        self.report = report
        self.first_step: int | None = None
        self.last_step = 0
        self.start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the step at which the run starts or continues."""
        self.last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step just done, if this was its last part."""
        step, steps = trainer.global_step, int(trainer.max_steps)
        if self.first_step is None:
            self.first_step, self.start = step, time.perf_counter()
        if step == self.last_step:
            return
        self.last_step = step
        assert isinstance(pl_module, TrainingTask)
        errors = pl_module.validation_errors
        done = step - self.first_step
        left = (time.perf_counter() - self.start) / done * (steps - step) if done else float("nan")
        self.report(
            TrainingProgress(
                step=step,
                steps=steps,
                loss=pl_module.losses["loss"],
                losses={name: value for name, value in pl_module.losses.items() if name != "loss"},
                validation_energy_mae=errors.energy_mae if errors else None,
                validation_force_mae=errors.force_mae if errors else None,
                validation_loss=pl_module.validation_loss,
                seconds_left=left,
            )
        )


def fit(
    setup: Setup,
    task: TrainingTask,
    checkpoint: Path | None,
    progress: Callable[[TrainingProgress], None] | None,
) -> None:
    """Train a task, from the beginning or from a checkpoint.

    Raises:
        DivergedError: the loss is no longer finite.
        KeyboardInterrupt: the user, or the system, stopped the run.
    """
    config = setup.config
    optimizer = config.optimizer
    with _quiet_lightning(), hangup_as_termination():
        trainer = Trainer(
            max_steps=optimizer.steps,
            max_epochs=-1,
            accumulate_grad_batches=optimizer.accumulate,
            precision="bf16-mixed" if config.mixed_precision else "32-true",
            callbacks=_callbacks(setup, progress),
            logger=_loggers(setup.output),
            log_every_n_steps=0,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            inference_mode=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **_place(setup.processes, setup.device),
        )
        batches = Batches(setup.frames, config, task.objective.margin, setup.share, lambda: task.global_step)
        try:
            trainer.fit(task, datamodule=batches, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            # Between two epochs Lightning cannot clean up after Ctrl-C: its loader has no iterator then.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _place(processes: Processes, device: torch.device) -> dict[str, Any]:
    """Return the options of the trainer that determine devices and processes."""
    if processes.count == 1:
        return {
            "accelerator": device.type.replace("cuda", "gpu"),
            "devices": 1 if device.type == "cpu" else [device.index],
            "plugins": [AtomicCheckpointIO(), LightningEnvironment()],
        }
    return {
        "accelerator": device.type.replace("cuda", "gpu"),
        "devices": processes.local_count,
        "num_nodes": processes.nodes,
        "strategy": DDPStrategy(broadcast_buffers=False),  # they are constants
        "plugins": [AtomicCheckpointIO(), LaunchedEnvironment(processes)],
    }


def _callbacks(setup: Setup, progress: Callable[[TrainingProgress], None] | None) -> list[Callback]:
    optimizer = setup.config.optimizer
    callbacks: list[Callback] = [
        AveragedWeights(optimizer.ema_decay),
        _checkpoint(setup.output, "best", monitor="validation/loss"),
        _checkpoint(setup.output, "last", monitor=None),
    ]
    if optimizer.patience:
        callbacks.append(EarlyStopping("validation/loss", patience=optimizer.patience))
    if setup.processes.count > 1:
        callbacks.append(_EndsOnSignal())
    if progress:
        callbacks.append(ProgressCallback(progress))
    return callbacks


def _checkpoint(output: Path, name: str, monitor: str | None) -> ModelCheckpoint:
    """Make a checkpoint callback for the ends of epochs, where a resumed run starts with whole steps."""
    return ModelCheckpoint(
        output / CHECKPOINTS,
        filename=name,
        monitor=monitor,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class _EndsOnSignal(Callback):
    """Ends a process of several at once on SIGTERM.

    Lightning finishes the step first and waits for the other processes, in vain when the launcher ends this process
    because another one failed.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Undo the signal handler of Lightning."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _loggers(output: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(output, name="", version=metrics_name(output))]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(output, name="", version="tensorboard"))
    return loggers


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence messages of Lightning that do not concern the user."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning against torch >= 2.10
        # A resumed run ends the epoch of its checkpoint once more, without new metrics.
        warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
        # The order of the batches is made from the step, so a resumed run needs no state of a loader.
        warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch.*")
        # A weight of one row has two layouts, which are the same.
        warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
        # Every process logs the same figures, which were gathered before.
        warnings.filterwarnings("ignore", message=".*It is recommended to use .*sync_dist=True.*")
        try:
            yield
        finally:
            logger.setLevel(level)
