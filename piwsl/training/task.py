"""The Lightning task: one training step, one validation, the optimiser."""

import logging
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses import ConsistencyTerm, Objective, Randomness
from piwsl.losses.terms import local_mean
from piwsl.models.potential import Potential
from piwsl.training.evaluate import labelled_points
from piwsl.training.metrics import Errors
from piwsl.training.parallel import global_mean, process_count
from piwsl.training.record import DivergedError, StepRecord
from piwsl.training.schedules import build_schedule
from piwsl.training.sections import OptimiserConfig
from piwsl.training.validation import Validation

__all__ = ["LOGGER", "DivergedError", "TrainingTask"]

LOGGER = logging.getLogger("piwsl.training")
WRITTEN = 50  # steps between the losses in the metrics file
MEMORY = 0.1  # weight of the last step in the running share of the label-free terms


class TrainingTask(LightningModule):
    """A potential, what it is taught, and how its weights are moved."""

    def __init__(self, potential: Potential, objective: Objective, config: OptimiserConfig, seed: int) -> None:
        super().__init__()
        self.potential = potential
        self.objective = objective
        self.config = config
        self.seed = seed
        self.schedule = build_schedule(config)
        self.losses: dict[str, float] = {}  # `loss` and its terms in the last step
        self.validation_errors: Errors | None = None
        self.validation_loss: float | None = None
        self.consistency_share = 0.0  # largest running mean of the share of the label-free terms in the loss
        self._running_share = 0.0
        self._record = StepRecord()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one part of a step; the displacements depend only on seed, step and frame."""
        mean = local_mean if process_count() == 1 else global_mean
        loss, terms = self.objective(self.potential, batch, Randomness(self.seed, self.global_step), mean)
        self._record.add(loss, terms, batch.frame_index)
        if process_count() > 1 or not loss.requires_grad:
            # Each process waits for the gradients of all weights, also where its batch has no label that asks for them.
            loss = loss + 0.0 * torch.stack([weight.sum() for weight in self._trained()]).sum()
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient of the whole step; stop where it is not finite, with the weights as they were."""
        weights = optimizer.param_groups[0]["params"]
        for weight in weights:
            if weight.grad is None:  # as several processes have it
                weight.grad = torch.zeros_like(weight)
        norm = nn.utils.clip_grad_norm_(weights, self.config.gradient_clip)
        self.losses = self._record.finish(self.global_step, norm)
        self._note_share()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Write the losses of the step just done, now and then."""
        whole = (batch_index + 1) % self.config.accumulate == 0
        if whole and self.global_step % min(WRITTEN, self.config.validation_interval) == 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]  # of the next step
            self._write({**{f"train/{name}": value for name, value in self.losses.items()}, "learning_rate": rate})

    def on_validation_epoch_start(self) -> None:
        """Begin to collect errors."""
        # Coefficients as at the end of the run: losses of different validations can then be compared.
        terms = self.objective.undisplaced.terms
        self._validation = Validation([(weighted.term, weighted.at(self.config.steps)) for weighted in terms])

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collect the errors of one batch, in the precision of the weights."""
        with torch.autocast(self.device.type, enabled=False), torch.enable_grad():
            self._validation.add(labelled_points(self.potential, batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of the whole validation set."""
        result = self._validation.result()
        errors = result.errors
        self.validation_errors, self.validation_loss = errors, result.loss
        LOGGER.info(f"step {self.global_step}: validation {'; '.join(errors.lines())}")
        self.schedule.validated(self.global_step, result.loss)
        values = {name: value for name, value in asdict(errors).items() if isinstance(value, float)}
        self._write({"validation/loss": result.loss, **{f"validation/{name}": value for name, value in values.items()}})
        for logger in self.trainer.loggers:
            logger.save()
        self.log("validation/loss", result.loss, logger=False, batch_size=1)  # what checkpoints are chosen by

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW for the weights that are not fixed, with the schedule asked for.

        Raises:
            ConfigError: all weights are fixed.
        """
        weights = self._trained()
        if not weights:
            raise ConfigError("all weights are fixed (start.freeze): nothing is left to train")
        optimiser = torch.optim.AdamW(
            weights,
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            amsgrad=self.config.amsgrad,
            fused=True,
        )
        scheduler = LambdaLR(optimiser, self.schedule)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _write(self, values: dict[str, float]) -> None:
        # Not through Lightning, whose count of the steps is off by one in a resumed run.
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.global_step)

    def _note_share(self) -> None:
        """Follow what the label-free terms make of the loss, as a running mean over the steps where they act."""
        acting = self.objective.acting(self.global_step)
        weights = {one.term.name: weight for one, weight in acting if isinstance(one.term, ConsistencyTerm)}
        if weights:
            share = sum(weight * self.losses[name] for name, weight in weights.items())
            self._running_share += MEMORY * (share / max(self.losses["loss"], 1e-30) - self._running_share)
            self.consistency_share = max(self.consistency_share, self._running_share)

    def _trained(self) -> list[nn.Parameter]:
        return [weight for weight in self.potential.parameters() if weight.requires_grad]
