"""Lightning trainer of a run, with its callbacks, loggers and checkpoints."""

import logging
import signal
import threading
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

from piwsl.compat.torch import torch_bytes
from piwsl.data.frames import FrameSet
from piwsl.errors import FULL
from piwsl.runs.files import unwritable, write_bytes
from piwsl.runs.interruption import hangup_as_termination
from piwsl.training.checkpoints import read_checkpoint
from piwsl.training.config import TrainingConfig
from piwsl.training.directory import BEST, CHECKPOINTS, metrics_name
from piwsl.training.distributed.processes import LaunchedEnvironment, Processes
from piwsl.training.frames import TrainingFrames
from piwsl.training.loader import Batches, BatchShard
from piwsl.training.task import SECONDS, TrainingTask
from piwsl.training.teacher import LoadedTeacher
from piwsl.training.threads import thread_choice


@dataclass(frozen=True)
class Setup:
    """Validated settings of a run in this process.

    Attributes:
        config: Training configuration.
        frames: Training, validation and test frames.
        output: Run directory.
        processes: Processes of the run.
        device: Device of this process.
        share: Part of each batch that this process computes.
        replay: Replay frames; None without replay.
        teacher: Teacher of the loss terms that learn from one; None without such terms.
    """

    config: TrainingConfig
    frames: TrainingFrames
    output: Path
    processes: Processes
    device: torch.device
    share: BatchShard
    replay: FrameSet | None = None
    teacher: LoadedTeacher | None = None

    def describe_device(self) -> str:
        """Return a description of the device and the number of processes."""
        if self.processes.count == 1:
            return ", ".join(filter(None, (self.device.type, self.processes.note)))
        machines = f" on {self.processes.nodes} machines" if self.processes.nodes > 1 else ""
        return f"{self.processes.count} {self.device.type} processes{machines}"


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, with a decay that increases with the steps up to ``decay``.

    Because the decay is smaller at the beginning, early validations use trained weights instead of the random weights
    of the first step.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Any, current: Any, count: Tensor | int) -> None:
            memory = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
            get_ema_multi_avg_fn(memory)(averaged, current, count)

        super().__init__(use_buffers=False, multi_avg_fn=average)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are replaced atomically and verified on reading.

    If the process is killed, the previous checkpoint remains.

    Args:
        on_best: Function called with the state of the task, including the averaged weights, after the best checkpoint
            is written.
    """

    def __init__(self, on_best: Callable[[dict[str, Tensor]], None] | None = None) -> None:
        super().__init__()
        self._on_best = on_best

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the checkpoint to a temporary file and move it to the target."""
        write_bytes(Path(path), torch_bytes(checkpoint))
        if self._on_best is not None and Path(path).name == Path(BEST).name:
            self._on_best(checkpoint["state_dict"])

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint whose checksums match.

        Raises:
            RunDirectoryError: The checkpoint is damaged.
        """
        return read_checkpoint(Path(path))


@dataclass(frozen=True)
class TrainingProgress:
    """State of a run, passed to progress callbacks. Errors are from the latest validation (eV, angstrom)."""

    step: int
    steps: int
    loss: float
    losses: dict[str, float]
    validation_energy_mae: float | None
    validation_force_mae: float | None
    validation_loss: float | None
    seconds_left: float


class ProgressCallback(Callback):
    """Callback that reports the progress after every step."""

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
        """Report the completed step if this batch was its last part."""
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
        if pl_module.config.minutes is not None:
            of_budget = max(0.0, 60 * pl_module.config.minutes - pl_module.seconds)
            left = min(left, of_budget) if done else of_budget
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
    on_best: Callable[[dict[str, Tensor]], None] | None = None,
) -> None:
    """Train a task from the first step or from a checkpoint.

    Args:
        setup: Settings of the run.
        task: Training task.
        checkpoint: Checkpoint to continue from. With None, training starts at step 0.
        progress: Function called after every step.
        on_best: Function called on rank 0 after each best validation, with the state of the task, including the
            averaged weights.

    Raises:
        DivergedError: The loss or its gradient is no longer finite.
        KeyboardInterrupt: A signal interrupted the run.
    """
    config = setup.config
    optimizer = config.optimizer
    with _quiet_lightning(), _quiet_writers(), hangup_as_termination():
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
            **_place(setup.processes, setup.device, AtomicCheckpointIO(on_best)),
        )
        margins = task.objective.margin, task.validated.margin
        batches = Batches(setup.frames, setup.replay, config, margins, setup.share, lambda: task.global_step)
        if checkpoint is not None and _is_over(checkpoint, config):
            return
        try:
            trainer.fit(task, datamodule=batches, ckpt_path=checkpoint, weights_only=True)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise unwritable(setup.output, error) from None
        except SystemExit:  # Lightning converts Ctrl-C to SystemExit.
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            # Lightning cannot clean up after Ctrl-C between two epochs, because its loader has no iterator then.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _is_over(checkpoint: Path, config: TrainingConfig) -> bool:
    """Return whether the time budget was exhausted at a checkpoint. Lightning itself would run one more step."""
    minutes = config.optimizer.minutes
    if minutes is None:
        return False
    used = read_checkpoint(checkpoint).get(SECONDS, 0.0)
    return isinstance(used, float) and used >= 60 * minutes


def _place(processes: Processes, device: torch.device, files: AtomicCheckpointIO) -> dict[str, Any]:
    """Return the trainer options for devices and processes."""
    if processes.count == 1:
        return {
            "accelerator": device.type.replace("cuda", "gpu"),
            "devices": 1 if device.type == "cpu" else [device.index],
            "plugins": [files, LightningEnvironment()],
        }
    return {
        "accelerator": device.type.replace("cuda", "gpu"),
        "devices": processes.local_count,
        "num_nodes": processes.nodes,
        "strategy": DDPStrategy(broadcast_buffers=False),  # the buffers are constant
        "plugins": [files, LaunchedEnvironment(processes)],
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
    if choice := thread_choice(setup.config, setup.device, setup.processes.count):
        callbacks.append(choice)
    return callbacks


def _checkpoint(output: Path, name: str, monitor: str | None) -> ModelCheckpoint:
    """Return a checkpoint callback that saves at the end of an epoch, where no step is incomplete."""
    return ModelCheckpoint(
        output / CHECKPOINTS,
        filename=name,
        monitor=monitor,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class _EndsOnSignal(Callback):
    """Callback that makes SIGTERM end a process of a multi-process run immediately.

    Lightning would finish the step and wait for the other processes. If the launcher ends this process because another
    process failed, this wait never returns.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the default signal handler, which Lightning replaced."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _loggers(output: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(output, name="", version=metrics_name(output))]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(output, name="", version="tensorboard"))
    return loggers


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Suppress tracebacks of writer threads. TensorBoard raises the same error again in the main thread."""
    before = threading.excepthook

    def show(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, OSError):
            before(arguments)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress messages of Lightning that are irrelevant to the user."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        warnings.filterwarnings(
            "ignore", message=".*LeafSpec.*"
        )  # deprecation in torch >= 2.10 that Lightning triggers
        # A resumed run repeats the end of the epoch of its checkpoint without new metrics.
        warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
        # The order of the batches depends only on the step, so a resumed run needs no state of the loader.
        warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch.*")
        # A weight with a single row has two equivalent memory layouts.
        warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
        # Every process logs the same gathered values.
        warnings.filterwarnings("ignore", message=".*It is recommended to use .*sync_dist=True.*")
        try:
            yield
        finally:
            logger.setLevel(level)
