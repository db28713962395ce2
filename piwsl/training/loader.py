"""Batches in a fixed order: the n-th batch of a run depends only on the seed and n."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame, FrameSet


class SeededOrder(Sampler[int]):
    """An endless shuffled order cut into epochs of equal length.

    Every pass through the frames is a new permutation made from the seed and the number of the pass, and an epoch
    begins where ``position`` says that the run is: a resumed run sees the frames it would have seen.
    """

    def __init__(self, count: int, epoch_length: int, seed: int, position: Callable[[], int]) -> None:
        self.count = count
        self.epoch_length = epoch_length
        self.seed = seed
        self.position = position

    def __len__(self) -> int:
        return self.epoch_length

    def __iter__(self) -> Iterator[int]:
        start = self.position()
        for position in range(start, start + self.epoch_length):
            passes, place = divmod(position, self.count)
            if place == 0 or position == start:
                order = np.random.default_rng(np.random.SeedSequence([self.seed, 2, passes])).permutation(self.count)
            yield int(order[place])


class _IndexedFrames(Dataset[tuple[int, Frame]]):
    def __init__(self, frames: FrameSet) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[int, Frame]:
        return index, self.frames[index]


class _Collate:
    def __init__(self, cutoff: float, dtype: torch.dtype) -> None:
        self.cutoff = cutoff
        self.dtype = dtype

    def __call__(self, items: list[tuple[int, Frame]]) -> Batch:
        indices, frames = zip(*items, strict=True)
        return collate(frames, self.cutoff, self.dtype, indices)


def train_loader(
    frames: FrameSet,
    batch_size: int,
    steps: int,
    cutoff: float,
    dtype: torch.dtype,
    seed: int,
    current_step: Callable[[], int],
) -> DataLoader[tuple[int, Frame]]:
    """Batches of the ``steps`` steps after the current one; edges reach ``cutoff`` (angstrom)."""
    order = SeededOrder(len(frames), steps * batch_size, seed, lambda: current_step() * batch_size)
    return DataLoader(_IndexedFrames(frames), batch_size, sampler=order, collate_fn=_Collate(cutoff, dtype))


def evaluation_loader(
    frames: FrameSet, batch_size: int, cutoff: float, dtype: torch.dtype
) -> DataLoader[tuple[int, Frame]]:
    """Batches of all frames in order; edges reach ``cutoff`` (angstrom)."""
    return DataLoader(_IndexedFrames(frames), batch_size, collate_fn=_Collate(cutoff, dtype))
