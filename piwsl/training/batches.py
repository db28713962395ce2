"""The batches of a run: epochs of one validation interval, the last one as long as what is left."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from piwsl.export.trained import DTYPES
from piwsl.training.loader import evaluation_loader, train_loader
from piwsl.training.sections import TrainingConfig
from piwsl.training.sources import TrainingFrames

VALIDATION_BATCH = 50


class Batches(LightningDataModule):
    """Training and validation batches, from the step that the run is at.

    Args:
        frames: of the run.
        config: of the run.
        margin: what the edges of training batches reach beyond the cutoff, angstrom.
        current_step: of the run.
    """

    def __init__(
        self, frames: TrainingFrames, config: TrainingConfig, margin: float, current_step: Callable[[], int]
    ) -> None:
        super().__init__()
        self.frames = frames
        self.config = config
        self.margin = margin
        self.current_step = current_step

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps until the next validation; made anew for each epoch."""
        optimiser = self.config.optimiser
        left = optimiser.steps - self.current_step()
        return train_loader(
            self.frames.train,
            optimiser.batch_size,
            max(1, min(optimiser.validation_interval, left)),
            self.config.model.cutoff + self.margin,
            DTYPES[self.config.weights_dtype],
            self.config.seed,
            self.current_step,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation frames in order."""
        dtype = DTYPES[self.config.weights_dtype]
        return evaluation_loader(self.frames.validation, VALIDATION_BATCH, self.config.model.cutoff, dtype)
