"""The batches of a run: epochs of one validation interval, the last one as long as what is left."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.export.trained import DTYPES
from piwsl.training.frames import TrainingFrames
from piwsl.training.loader import PartsOfSteps, SeededOrder, Share, evaluation_loader, train_loader, usable
from piwsl.training.processes import Processes
from piwsl.training.sections import TrainingConfig

VALIDATION_BATCH = 50


def share_of_process(config: TrainingConfig, frames: TrainingFrames, processes: Processes) -> Share:
    """What a process computes of each batch.

    Raises:
        ConfigError: the batches, or the validation frames, cannot be shared among the processes.
    """
    optimiser = config.optimiser
    shares = processes.count * optimiser.accumulate
    if optimiser.batch_size % shares:
        raise ConfigError(
            f"optimiser.batch_size = {optimiser.batch_size} cannot be divided by {processes.count} processes x "
            f"{optimiser.accumulate} parts (optimiser.accumulate): use a multiple of {shares}"
        )
    if len(frames.validation) < processes.count:
        raise ConfigError(
            f"{len(frames.validation)} validation frames for {processes.count} processes: raise data.validation or "
            "start fewer"
        )
    return Share(optimiser.batch_size, optimiser.accumulate, processes.count, processes.rank)


class Batches(LightningDataModule):
    """Training and validation batches, from the step that the run is at.

    Args:
        frames: of the run.
        config: of the run.
        margin: what the edges of training batches reach beyond the cutoff, angstrom.
        share: what this process takes of them.
        current_step: of the run.
    """

    def __init__(
        self,
        frames: TrainingFrames,
        config: TrainingConfig,
        margin: float,
        share: Share,
        current_step: Callable[[], int],
    ) -> None:
        super().__init__()
        self.frames = frames
        self.config = config
        self.share = share
        self.current_step = current_step
        order = SeededOrder(len(frames.train), config.seed)
        dtype = DTYPES[config.weights_dtype]
        self._train = train_loader(
            frames.train,
            PartsOfSteps(order, share, self.steps_to_validation, current_step),
            config.model.cutoff + margin,
            dtype,
            config.data.workers,
        )
        self._validation = evaluation_loader(
            frames.validation, VALIDATION_BATCH, config.model.cutoff, dtype, share.processes, share.rank
        )

    def steps_to_validation(self) -> int:
        """Steps until the next validation: at multiples of the interval, and at the end of the run."""
        optimiser, step = self.config.optimiser, self.current_step()
        interval = optimiser.validation_interval
        return max(1, min(interval - step % interval, optimiser.steps - step))

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps until the next validation; Lightning asks for each epoch."""
        return self._train

    def val_dataloader(self) -> DataLoader[Any]:
        """This process's share of the validation frames, in order."""
        return self._validation

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Pass a batch on, or raise the error that stands in its place."""
        return usable(batch)
