"""Loaders of batches in a reproducible order, which depends only on the seed and the step."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, PiwslError
from piwsl.export.trained_file import DTYPES
from piwsl.training.config import TrainingConfig
from piwsl.training.distributed.processes import Processes
from piwsl.training.frames import TrainingFrames
from piwsl.training.mixed_order import AlternatingOrder, MixedOrder, Order
from piwsl.training.replay import replay_count, with_replay
from piwsl.typing import IntArray


class SeededOrder:
    """Infinite shuffled order of ``count`` frames. Seed and epoch determine the permutation of each epoch.

    Args:
        count: Number of frames.
        seed: Seed of the run.
        stream: Random stream. Orders of different streams are independent.
    """

    def __init__(self, count: int, seed: int, stream: int = 2) -> None:
        self.count = count
        self.seed = seed
        self.stream = stream
        self._known: tuple[int, IntArray] = (-1, np.arange(0))

    def frames(self, start: int, stop: int) -> IntArray:
        """Return the frames from position ``start`` up to ``stop``, exclusive."""
        pieces = []
        while start < stop:
            number, place = divmod(start, self.count)
            piece = self._permutation(number)[place : place + stop - start]
            pieces.append(piece)
            start += len(piece)
        return np.concatenate(pieces)

    def _permutation(self, number: int) -> IntArray:
        if number != self._known[0]:
            generator = np.random.default_rng(np.random.SeedSequence([self.seed, self.stream, number]))
            self._known = number, generator.permutation(self.count)
        return self._known[1]


_LEVELS = 8  # random stream of the order of the first further level; the others follow


@dataclass(frozen=True)
class BatchCounts:
    """Numbers of structures of each kind in a step.

    Attributes:
        labeled: Labeled frames of the main level.
        unlabeled: Frames without labels.
        levels: Frames of further levels.
        replay: Replay frames.
    """

    labeled: int
    unlabeled: int
    levels: int
    replay: int

    @property
    def main(self) -> int:
        """Number of frames of the main level that are not replay frames."""
        return self.labeled + self.unlabeled


def batch_counts(config: TrainingConfig, frames: TrainingFrames) -> BatchCounts:
    """Return the numbers of structures of each kind in a step.

    Replay frames have their share of the batch, further levels have their share of the rest, and frames without labels
    have their share of what remains.

    Raises:
        ConfigError: The batch size leaves no room for all kinds.
    """
    size = config.optimizer.batch_size
    replay = replay_count(config)
    left = size - replay
    kinds = [1, bool(frames.unlabeled), bool(frames.levels)]
    if left < sum(kinds):
        what = "frames with and without labels" if frames.unlabeled else "frames of the main level"
        raise ConfigError(
            f"optimizer.batch_size = {size} leaves no room for {what}"
            f"{' and of further levels' if frames.levels else ''} in a batch: use a larger value"
        )
    most = left - sum(kinds[:2])
    levels = min(most, max(1, round(config.data.levels_share * left))) if frames.levels else 0
    left -= levels
    unlabeled = min(left - 1, max(1, round(config.data.unlabeled_share * left))) if frames.unlabeled else 0
    return BatchCounts(left - unlabeled, unlabeled, levels, replay)


def training_order(config: TrainingConfig, frames: TrainingFrames, replay: FrameSet | None) -> Order:
    """Return the order of the training frames of a run, with fixed numbers of each kind in each batch.

    Raises:
        ConfigError: The batch size leaves no room for all kinds.
    """
    counts = batch_counts(config, frames)
    main = len(frames.train) - frames.further
    labeled = main - frames.unlabeled
    order: Order = SeededOrder(labeled, config.seed)
    if frames.unlabeled:
        order = MixedOrder(order, SeededOrder(frames.unlabeled, config.seed), labeled, counts.main, counts.unlabeled)
    if frames.levels:
        sizes = [len(level.frames) for level in frames.levels]
        orders = [SeededOrder(size, config.seed, _LEVELS + index) for index, size in enumerate(sizes)]
        further = AlternatingOrder(orders, [0, *accumulate(sizes[:-1])])
        order = MixedOrder(order, further, main, counts.main + counts.levels, counts.levels)
    if replay is not None:
        others = SeededOrder(len(replay), config.seed, stream=4)
        order = MixedOrder(order, others, len(frames.train), config.optimizer.batch_size, counts.replay)
    return order


@dataclass(frozen=True)
class BatchShard:
    """Shard of every batch that this process computes, divided into parts to save memory.

    Attributes:
        batch_size: Number of structures in a step, over all processes and parts.
        parts: Number of parts of a step that a process computes in sequence.
        processes: Number of processes that share a step.
        rank: Rank of this process.
    """

    batch_size: int
    parts: int = 1
    processes: int = 1
    rank: int = 0

    @property
    def size(self) -> int:
        """Number of structures in one part."""
        return self.batch_size // (self.parts * self.processes)

    def of(self, batch: IntArray) -> IntArray:
        """Return the parts (parts, size) of a batch (batch_size,) that this process computes."""
        mine: IntArray = batch.reshape(self.parts, self.processes, self.size)[:, self.rank]
        return mine


class StepSampler(Sampler[list[int]]):
    """Sampler of the frames of each part of each step, from the current step to the next validation.

    Args:
        order: Shuffled order of the frames.
        share: Shard of each batch that this process computes.
        steps: Function that returns the number of steps until the next validation.
        current_step: Function that returns the current step of the run.
    """

    def __init__(
        self, order: Order, share: BatchShard, steps: Callable[[], int], current_step: Callable[[], int]
    ) -> None:
        self.order = order
        self.share = share
        self.steps = steps
        self.current_step = current_step

    def __len__(self) -> int:
        return self.steps() * self.share.parts

    def __iter__(self) -> Iterator[list[int]]:
        size = self.share.batch_size
        first = self.current_step()
        for step in range(first, first + self.steps()):
            for part in self.share.of(self.order.frames(step * size, (step + 1) * size)):
                yield part.tolist()


def raise_if_error(batch: Batch | PiwslError) -> Batch:
    """Return the batch of a loader, or raise the error that the loader returned instead.

    Raises:
        PiwslError: The frames of the batch cannot be read or collated.
    """
    if isinstance(batch, PiwslError):
        raise batch
    return batch


class _Batches(Dataset[Batch | PiwslError]):
    """Dataset that returns the batch of graphs for a list of frame indices."""

    def __init__(self, frames: FrameSet, cutoff: float, dtype: torch.dtype) -> None:
        self.frames = frames
        self.cutoff = cutoff
        self.dtype = dtype

    def __getitem__(self, indices: list[int]) -> Batch | PiwslError:
        # Errors are returned, because an error raised in a worker would have a traceback in its message.
        try:
            return collate([self.frames[index] for index in indices], self.cutoff, self.dtype, indices)
        except PiwslError as error:
            return error


def _end_quietly(worker: int) -> None:
    """Suppress connection errors in workers whose parent has exited."""
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, ConnectionError | EOFError):
            shown(kind, error, traceback)

    sys.excepthook = show


def train_loader(
    frames: FrameSet, parts: StepSampler, cutoff: float, dtype: torch.dtype, workers: int
) -> DataLoader[Any]:
    """Return the loader of the training batches. Edges extend to ``cutoff`` (angstrom).

    The ``workers`` processes prefetch batches and persist over all epochs. They are forked from a clean server process,
    because a fork of this process would inherit threads and open files that it cannot use.
    """
    options: dict[str, Any] = {}
    if workers:
        known = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in known else "spawn"
        options = {"multiprocessing_context": method, "persistent_workers": True}
        options["worker_init_fn"] = _end_quietly
        if method == "forkserver":
            multiprocessing.set_forkserver_preload([__name__])  # The server imports torch once for all workers.
    dataset = _Batches(frames, cutoff, dtype)
    return DataLoader(dataset, batch_size=None, sampler=parts, num_workers=workers, **options)


def evaluation_loader(
    frames: FrameSet, batch_size: int, cutoff: float, dtype: torch.dtype, processes: int = 1, rank: int = 0
) -> DataLoader[Any]:
    """Return the loader of the frames of this process, in order. Edges extend to ``cutoff`` (angstrom)."""
    mine = range(rank, len(frames), processes)
    batches = [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]
    return DataLoader(_Batches(frames, cutoff, dtype), batch_size=None, sampler=batches)


VALIDATION_BATCH = 50


def share_of_process(config: TrainingConfig, frames: TrainingFrames, processes: Processes) -> BatchShard:
    """Return the shard of each batch that this process computes.

    Raises:
        ConfigError: The batch size is not a multiple of processes times parts, or there are fewer validation frames
            than processes.
    """
    optimizer = config.optimizer
    shares = processes.count * optimizer.accumulate
    if optimizer.batch_size % shares:
        raise ConfigError(
            f"optimizer.batch_size = {optimizer.batch_size} is not divisible by {processes.count} processes x "
            f"{optimizer.accumulate} parts (optimizer.accumulate): use a multiple of {shares}"
        )
    if len(frames.validation) < processes.count:
        raise ConfigError(
            f"{len(frames.validation)} validation frames are too few for {processes.count} processes: increase "
            "data.validation or start fewer processes"
        )
    return BatchShard(optimizer.batch_size, optimizer.accumulate, processes.count, processes.rank)


class Batches(LightningDataModule):
    """Data module with the training batches from the current step on, and the validation batches.

    Args:
        frames: Training, validation and test frames.
        replay: Replay frames; None without replay.
        config: Training configuration.
        margins: Distances by which the edges of training and validation batches extend beyond the cutoff, angstrom.
        share: Shard of each batch that this process computes.
        current_step: Function that returns the current step of the run.
    """

    def __init__(
        self,
        frames: TrainingFrames,
        replay: FrameSet | None,
        config: TrainingConfig,
        margins: tuple[float, float],
        share: BatchShard,
        current_step: Callable[[], int],
    ) -> None:
        super().__init__()
        self.frames = frames
        self.config = config
        self.share = share
        self.current_step = current_step
        order = training_order(config, frames, replay)
        dtype = DTYPES[config.weights_dtype]
        self._train = train_loader(
            with_replay(frames.train, replay),
            StepSampler(order, share, self.steps_to_validation, current_step),
            config.model.cutoff + margins[0],
            dtype,
            config.data.workers,
        )
        self._validation = evaluation_loader(
            frames.validation, VALIDATION_BATCH, config.model.cutoff + margins[1], dtype, share.processes, share.rank
        )

    def steps_to_validation(self) -> int:
        """Return the number of steps until the next multiple of the validation interval or the end of the run."""
        optimizer, step = self.config.optimizer, self.current_step()
        interval = optimizer.validation_interval
        return max(1, min(interval - step % interval, optimizer.steps - step))

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the steps until the next validation. Lightning calls this method for each epoch."""
        return self._train

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation frames of this process, in order."""
        return self._validation

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Return the batch, or raise the error that a worker returned instead."""
        return raise_if_error(batch)
