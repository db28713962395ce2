"""The Lightning task: one training step, one validation, the optimiser."""

import logging

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, ReduceLROnPlateau, SequentialLR

from piwsl.data.batch import Batch
from piwsl.errors import PiwslError
from piwsl.losses import Objective
from piwsl.losses.prediction import predict
from piwsl.models.potential import Potential
from piwsl.training.metrics import ErrorCollector, Errors
from piwsl.training.sections import OptimiserConfig

LOGGER = logging.getLogger("piwsl.training")


class DivergedError(PiwslError):
    """The loss is no longer a finite number."""


class TrainingTask(LightningModule):
    """A potential, what it is taught, and how its weights are moved."""

    def __init__(self, potential: Potential, objective: Objective, config: OptimiserConfig, seed: int) -> None:
        super().__init__()
        self.potential = potential
        self.objective = objective
        self.labels_only = Objective(objective.supervised)
        self.config = config
        self.seed = seed
        self.validation_errors: Errors | None = None
        self._running_share = 0.0
        self.consistency_share = 0.0  # largest running mean of the share of the label-free terms in the loss

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one step; the displacements depend only on the seed and the step."""
        step = self.global_step
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        loss, parts = self.objective(lambda graph: predict(self.potential, graph), batch, step, generator)
        if not torch.isfinite(loss):
            frames = ", ".join(str(int(index)) for index in batch.frame_index)
            raise DivergedError(
                f"the loss is {loss.item()} at step {step} (frames {frames}): lower the learning rate or the "
                "coefficients; the last checkpoint is kept"
            )
        if self.objective.consistency_acts(step):
            weights = {one.term.name: one.coefficient for one in self.objective.consistency}
            share = sum(weights[name] * float(parts[name]) for name in weights) / max(float(loss.detach()), 1e-30)
            self._running_share += 0.1 * (share - self._running_share)
            self.consistency_share = max(self.consistency_share, self._running_share)
        for name, value in parts.items():
            self.log(f"train/{name}", value.float(), batch_size=batch.n_structures)
        self.log("train/loss", loss.detach().float(), batch_size=batch.n_structures)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to collect errors."""
        self._collector = ErrorCollector()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collect the errors of one batch and its supervised loss."""
        with torch.enable_grad():
            prediction = predict(self.potential, batch, create_graph=False)
            loss, _ = self.labels_only(lambda _: prediction, batch, 0, torch.Generator())
        self._collector.add(prediction, batch)
        self.log("validation/loss", loss.detach().float(), batch_size=batch.n_structures)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of the whole validation set."""
        self.validation_errors = errors = self._collector.errors()
        LOGGER.info(f"step {self.global_step}: validation {'; '.join(errors.lines())}")
        for name in ("energy_mae", "energy_rmse", "force_mae", "force_rmse", "energy_spread_ratio"):
            value = getattr(errors, name)
            if value is not None:
                self.log(f"validation/{name}", value, batch_size=errors.structures)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a linear warm-up, then the schedule asked for."""
        config = self.config
        optimiser = torch.optim.AdamW(
            self.potential.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, amsgrad=True
        )
        if config.schedule == "plateau":
            plateau = ReduceLROnPlateau(optimiser, factor=0.5, patience=config.plateau_patience)
            return {
                "optimizer": optimiser,
                "lr_scheduler": {"scheduler": plateau, "monitor": "validation/loss", "interval": "epoch"},
            }
        warmup = LinearLR(optimiser, start_factor=0.01, total_iters=max(1, config.warmup))
        rest = max(1, config.steps - config.warmup)
        after = (
            CosineAnnealingLR(optimiser, rest, eta_min=1e-3 * config.learning_rate)
            if config.schedule == "cosine"
            else ConstantLR(optimiser, factor=1.0)
        )
        schedule = SequentialLR(optimiser, [warmup, after], milestones=[max(1, config.warmup)])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
