"""Lightning callbacks: averaged weights, progress, atomic checkpoints."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from piwsl.data.files import atomic_path
from piwsl.training.task import TrainingTask


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
    """State of a run for whoever displays it; errors are those of the latest validation (eV, angstrom)."""

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
        """Note where the run begins, or goes on."""
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
