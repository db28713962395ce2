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

from piwsl.data.files import atomic_path


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights whose memory grows with the steps taken, up to ``decay``.

    The growing memory lets early validations see trained weights rather than the first random ones.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            memory = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
            return averaged + (1.0 - memory) * (current - averaged)

        super().__init__(use_buffers=False, avg_fn=average)


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
    seconds_left: float


class ProgressCallback(Callback):
    """Calls back after every step."""

    def __init__(self, report: Callable[[TrainingProgress], None]) -> None:
        self.report = report
        self.first_step: int | None = None
        self.start = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step just done."""
        step, steps = trainer.global_step, int(trainer.max_steps)
        if self.first_step is None:
            self.first_step, self.start = step, time.perf_counter()
        metrics = {name: float(value.detach()) for name, value in trainer.callback_metrics.items()}
        done = step - self.first_step
        left = (time.perf_counter() - self.start) / done * (steps - step) if done else float("nan")
        self.report(
            TrainingProgress(
                step=step,
                steps=steps,
                loss=metrics.get("train/loss", float("nan")),
                losses={
                    name.removeprefix("train/"): value
                    for name, value in metrics.items()
                    if name.startswith("train/") and name != "train/loss"
                },
                validation_energy_mae=metrics.get("validation/energy_mae"),
                validation_force_mae=metrics.get("validation/force_mae"),
                seconds_left=left,
            )
        )
