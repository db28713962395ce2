"""Lightning module of a training run: training step, validation, and optimizer."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError, PiwslError
from piwsl.losses import ConsistencyTerm, FrameRandom, Objective
from piwsl.losses.contrast import Contrast
from piwsl.losses.objective import Term, local_mean
from piwsl.losses.predictions import ORIGIN, PointPredictions, PredictionRequest
from piwsl.models.levels import named_weights
from piwsl.models.potential import Potential
from piwsl.training.blocks import blocks_of_weights, rate_factors
from piwsl.training.config import OptimizerConfig
from piwsl.training.distributed.process_group import gathered, global_mean, process_count, process_rank, summed
from piwsl.training.evaluate import labeled_points
from piwsl.training.metrics import Errors, ErrorSums
from piwsl.training.schedules import build_schedule


@dataclass(frozen=True)
class ValidationResult:
    """Errors on the validation frames, and the validation loss (weighted sum of the supervised terms)."""

    errors: Errors
    loss: float


class Validation:
    """Accumulator of validation errors over batches. The loss is independent of the division into batches.

    Args:
        terms: Supervised terms with their coefficients.
    """

    def __init__(self, terms: Sequence[tuple[Term, float]]) -> None:
        self.terms = terms
        self._errors = ErrorSums()
        self._sums = [0.0] * len(terms)
        self._counts = [0] * len(terms)

    def add(self, points: PointPredictions, batch: Batch) -> None:
        """Add the predictions for a batch."""
        self._errors.add(points, batch)
        for index, (term, _) in enumerate(self.terms):
            if term.applies(batch):
                values, labeled = term(points, batch)
                self._sums[index] += float(values[labeled].detach().sum())
                self._counts[index] += int(labeled.sum())

    def result(self) -> ValidationResult:
        """Return the result over all processes. Every process receives it."""
        portions = gathered((self._errors, self._sums, self._counts))
        loss = 0.0
        for index, (_, coefficient) in enumerate(self.terms):
            count = sum(counts[index] for _, _, counts in portions)
            if count:
                loss += coefficient * sum(sums[index] for _, sums, _ in portions) / count
        return ValidationResult(ErrorSums.merged(errors for errors, _, _ in portions).errors(), loss)


class DivergedError(PiwslError):
    """Raised when the loss or its gradient is not finite."""


class StepRecord:
    """Loss terms of the parts of the current step in this process."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []
        self._frames: list[Tensor] = []

    def add(self, loss: Tensor, terms: dict[str, Tensor], frames: Tensor) -> None:
        """Add the loss of a part, its loss terms, and the indices of its frames (S,)."""
        self._parts.append({"loss": loss.detach(), **terms})
        self._frames.append(frames)

    def finish(self, step: int, gradient_norm: Tensor) -> dict[str, float]:
        """Return the means of the loss and its terms over parts and processes, and start a new step.

        Raises:
            DivergedError: The norm of the gradient is not finite. The message contains the step and the frames.
        """
        names = list(dict.fromkeys(name for part in self._parts for name in part))
        sums = [torch.stack([part[name] for part in self._parts if name in part]).sum() for name in names]
        means = summed(torch.stack(sums)) / (len(self._parts) * process_count())
        # A single transfer to the CPU for all values.
        *values, norm = torch.cat([means, gradient_norm.detach().to(means).reshape(1)]).tolist()
        if not math.isfinite(norm):
            self._stop(step, values[names.index("loss")])
        self._parts, self._frames = [], []
        return dict(zip(names, values, strict=True))

    def _stop(self, step: int, loss: float) -> None:
        mine = [
            frames.tolist()
            for part, frames in zip(self._parts, self._frames, strict=True)
            if math.isfinite(loss) or not torch.isfinite(part["loss"])
        ]
        frames = [frame for process in gathered(mine) for part in process for frame in part]
        what = "the gradient of the loss is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise DivergedError(
            f"{what} at step {step} (frames {', '.join(map(str, frames))}): reduce the learning rate or the "
            "coefficients; the last checkpoint is kept"
        )


LOGGER = logging.getLogger(__name__)
OF_FORCES = PredictionRequest(forces=frozenset({ORIGIN}))
SECONDS = "seconds"  # key of the elapsed time of the run in a checkpoint
CHAINS = "contrast"  # key of the chains of the contrast in a checkpoint
WRITTEN = 50  # steps between entries of the losses in the metrics file
MEMORY = 0.1  # weight of the last step in the running mean of the consistency share


class TrainingTask(LightningModule):
    """Lightning module that trains a potential with an objective.

    Args:
        potential: Potential with initial weights.
        objective: Training objective.
        config: Section `optimizer` of the configuration.
        seed: Seed of the displacements.
        validation: Objective whose terms without displacements are the validation loss; by default the training
            objective.
        layer_decay: Factor of the learning rate from each layer of the network to the layer below.
        contrast: Contrast with the dynamics of the potential.
    """

    def __init__(
        self,
        potential: Potential,
        objective: Objective,
        config: OptimizerConfig,
        seed: int,
        validation: Objective | None = None,
        layer_decay: float = 1.0,
        contrast: Contrast | None = None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.objective = objective
        self.contrast = contrast
        self.validated = (validation or objective).undisplaced
        self.config = config
        self.seed = seed
        self.layer_decay = layer_decay
        self.schedule = build_schedule(config)
        self.seconds = 0.0  # elapsed time of this run, over all sessions
        self._since: float | None = None
        self.losses: dict[str, float] = {}  # `loss` and its terms at the last step
        self.validation_errors: Errors | None = None
        self.validation_loss: float | None = None
        self.consistency_share = 0.0  # largest running mean of the fraction of the label-free terms in the loss
        self._running_share = 0.0
        self._record = StepRecord()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one part of a step. The displacements depend only on seed, step and frame."""
        mean = local_mean if process_count() == 1 else global_mean
        loss, terms = self.objective(self.potential, batch, FrameRandom(self.seed, self.global_step), mean)
        if batch_index % self.config.accumulate == 0:
            loss, terms = self.with_contrast(loss, terms, self.global_step, mean)
        self._record.add(loss, terms, batch.frame_index)
        if process_count() > 1 or not loss.requires_grad:
            # DDP waits for the gradients of all weights, even if a batch has no label that requires them.
            loss = loss + 0.0 * torch.stack([weight.sum() for weight in self._trained()]).sum()
        return loss

    def with_contrast(
        self,
        loss: Tensor,
        terms: dict[str, Tensor],
        step: int,
        mean: Callable[[Tensor, Tensor], Tensor | None] = local_mean,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the contrast with the dynamics of the model to the loss of the first part of a step, and to its terms."""
        coefficient = self.contrast.at(step) if self.contrast else 0.0
        if self.contrast is None or not coefficient:
            return loss, terms
        values = self.contrast(self.potential, step)
        value = mean(values, torch.ones_like(values, dtype=torch.bool))
        if value is None:
            return loss, terms
        value = self.config.accumulate * value  # the loss of a step is the mean over its parts
        return loss + coefficient * value, {**terms, self.contrast.name: value.detach()}

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Compute the gradient of the weights alone: that of the positions would take 4 to 7 % of a step."""
        loss.backward(inputs=self._trained())

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient of the whole step. Raise an error before the weights change if it is not finite."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for weight in weights:
            if weight.grad is None:  # consistent with runs of several processes
                weight.grad = torch.zeros_like(weight)
        norm = nn.utils.clip_grad_norm_(weights, self.config.gradient_clip)
        self.losses = self._record.finish(self.global_step, norm)
        self._note_share()
        self._read_clock()

    @property
    def time_is_up(self) -> bool:
        """Whether the time budget of the run is exhausted."""
        return self.config.minutes is not None and self.seconds >= 60 * self.config.minutes

    def on_train_start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def _read_clock(self) -> None:
        """Update the elapsed time from the clock of rank 0 if the run has a time budget.

        All processes require the same learning rate and the same last step.
        """
        if self.config.minutes is None or self._since is None:
            return
        now = time.perf_counter()
        seconds = torch.tensor(self.seconds + now - self._since, dtype=torch.float64, device=self.device)
        self.seconds = float(summed(seconds * (process_rank() == 0)))
        self._since = now
        self.schedule.time_share = min(1.0, self.seconds / (60 * self.config.minutes))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the elapsed time and the chains of the contrast in the checkpoint."""
        checkpoint[SECONDS] = self.seconds
        if self.contrast is not None:
            checkpoint[CHAINS] = [chain for portion in gathered(self.contrast.state()) for chain in portion]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the elapsed time and the chains of the contrast from the checkpoint."""
        self.seconds = float(checkpoint.get(SECONDS, 0.0))
        if self.contrast is not None:
            self.contrast.load_state(checkpoint.get(CHAINS, []))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Stop training when the time is up, and write the losses at regular intervals."""
        whole = (batch_index + 1) % self.config.accumulate == 0
        if whole and self.time_is_up:
            self.trainer.should_stop = True
        if whole and self.global_step % min(WRITTEN, self.config.validation_interval) == 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]  # learning rate of the next step
            self._write({**{f"train/{name}": value for name, value in self.losses.items()}, "learning_rate": rate})

    def on_validation_epoch_start(self) -> None:
        """Create an empty accumulator of validation errors."""
        # The coefficients of the last step make the losses of different validations comparable.
        terms = self.validated.terms
        self._validation = Validation([(weighted.term, weighted.at(self.config.steps)) for weighted in terms])

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add the errors of one batch, computed in the precision of the weights."""
        with torch.autocast(self.device.type, enabled=False), torch.enable_grad():
            teacher = self.validated.teacher
            own = batch if teacher is None else teacher.student_batch(batch, 0.0)
            points = labeled_points(self.potential, own)
            if teacher is not None:
                points = replace(points, teacher=teacher(batch, (), OF_FORCES, None))
            self._validation.add(points, batch)

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
        self.log("validation/loss", result.loss, logger=False, batch_size=1)  # criterion of the best checkpoint

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer with the learning-rate schedule of the configuration.

        Raises:
            ConfigError: All weights are frozen.
        """
        optimizer = self.build_optimizer()
        scheduler = LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def build_optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW for the trainable weights.

        Raises:
            ConfigError: All weights are frozen.
        """
        weights = self._trained()
        if not weights:
            raise ConfigError("start.freeze freezes all weights: leave some weights trainable")
        return torch.optim.AdamW(
            weights if self.layer_decay == 1.0 else self._groups(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            amsgrad=self.config.amsgrad,
            fused=True,
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Return the trainable weights in groups of equal learning rate, the largest rate first."""
        network = self.potential.network
        factors, blocks = rate_factors(network, self.layer_decay), blocks_of_weights(network)
        groups: dict[float, list[nn.Parameter]] = {}
        for name, weight in named_weights(self.potential):
            if weight.requires_grad:
                groups.setdefault(factors[blocks[name].name], []).append(weight)
        rate = self.config.learning_rate
        return [{"params": groups[factor], "lr": rate * factor} for factor in sorted(groups, reverse=True)]

    def _write(self, values: dict[str, float]) -> None:
        # `LightningModule.log` is not used, because its step count is off by one in a resumed run.
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.global_step)

    def _note_share(self) -> None:
        """Update the running mean of the fraction of the label-free terms in the loss, if any of them is active."""
        acting = self.objective.acting(self.global_step)
        weights = {
            weighted.term.name: weight for weighted, weight in acting if isinstance(weighted.term, ConsistencyTerm)
        }
        if weights:
            share = sum(weight * self.losses[name] for name, weight in weights.items())
            self._running_share += MEMORY * (share / max(self.losses["loss"], 1e-30) - self._running_share)
            self.consistency_share = max(self.consistency_share, self._running_share)

    def _trained(self) -> list[nn.Parameter]:
        return [weight for weight in self.potential.parameters() if weight.requires_grad]
