"""The order of the frames, its division among processes and parts, and the processes that read ahead."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from piwsl.data.frames import FrameSet
from piwsl.errors import DataError
from piwsl.training.loader import BatchShard, SeededOrder, StepSampler, evaluation_loader, raise_if_error, train_loader
from tests.support.molecules import frame


def test_order_visits_every_frame_once_a_pass_and_depends_on_the_seed():
    order = SeededOrder(10, seed=0)
    seen = order.frames(0, 60)
    for start in range(0, 60, 10):
        assert sorted(seen[start : start + 10]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:20])
    assert np.array_equal(SeededOrder(10, seed=0).frames(0, 60), seen)
    assert not np.array_equal(SeededOrder(10, seed=1).frames(0, 60), seen)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (7, 13), (38, 41), (25, 58)])
def test_any_piece_of_the_order_is_the_same_piece(start, stop):
    assert np.array_equal(SeededOrder(10, 3).frames(start, stop), SeededOrder(10, 3).frames(0, 60)[start:stop])


@pytest.mark.parametrize(("processes", "parts"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_processes_and_parts_divide_every_batch(processes, parts):
    def batches(rank, step):
        share = BatchShard(12, parts, processes, rank)
        return list(StepSampler(SeededOrder(50, 0), share, lambda: 3, lambda: step))

    whole = SeededOrder(50, 0)
    mine = [batches(rank, step=2) for rank in range(processes)]
    assert all(len(one) == 3 * parts for one in mine)
    for step in range(3):
        taken = [frame for one in mine for part in one[step * parts : (step + 1) * parts] for frame in part]
        assert sorted(taken) == sorted(whole.frames((2 + step) * 12, (3 + step) * 12))
    # A run that was interrupted after two steps goes on as if it had not been.
    assert batches(0, step=4)[0] == mine[0][2 * parts]


def test_evaluation_shares_hold_every_frame_once():
    frames = FrameSet([frame("H2O", seed=seed, labeled=True) for seed in range(11)])
    seen = []
    for rank in range(3):
        for batch in evaluation_loader(frames, 2, 4.0, torch.float64, processes=3, rank=rank):
            seen += raise_if_error(batch).frame_index.tolist()
    assert sorted(seen) == list(range(11))


class Unreadable(list):
    def __getitem__(self, index):
        if index == 3:
            raise DataError("water.h5: frame 3 is damaged")
        return super().__getitem__(index)


def loader(workers, frames=None, steps=4):
    frames = frames or FrameSet([frame("H2O", seed=seed, labeled=True) for seed in range(10)])
    parts = StepSampler(SeededOrder(len(frames), 0), BatchShard(2), lambda: steps, lambda: 1)
    return train_loader(frames, parts, 4.0, torch.float64, workers)


def children():
    """Processes that descend from this one."""
    pairs = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pairs.append((int(path.parent.name), int(fields[1])))
    found = {os.getpid()}
    for _ in pairs:
        found |= {process for process, parent in pairs if parent in found}
    return found - {os.getpid()}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the list of processes is that of Linux")
def test_processes_that_read_ahead_change_nothing_and_end():
    ahead = loader(2)
    for _ in range(2):  # epochs
        for here, there in zip(loader(0), ahead, strict=True):
            for name, value in vars(here).items():
                torch.testing.assert_close(getattr(there, name), value, rtol=0, atol=0, equal_nan=True)
    workers = [worker.pid for worker in ahead._iterator._workers]
    assert set(workers) <= children()
    del ahead
    assert not set(workers) & children()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_frame_is_one_line(workers):
    frames = FrameSet(Unreadable(frame("H2O", seed=seed) for seed in range(10)))
    with pytest.raises(DataError) as error:
        _ = [raise_if_error(batch) for batch in loader(workers, frames, steps=5)]
    assert str(error.value) == "water.h5: frame 3 is damaged"
