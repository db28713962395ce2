"""Collective operations between the processes of a run; with a single process nothing is sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def process_count() -> int:
    """Return the number of processes of the run."""
    return distributed.get_world_size() if _in_group() else 1


def process_rank() -> int:
    """Return the rank of this process."""
    return distributed.get_rank() if _in_group() else 0


def is_rank_zero() -> bool:
    """Return whether this process has rank 0, which writes files and reports to the user."""
    return process_rank() == 0


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def global_mean(values: Tensor, labeled: Tensor) -> Tensor | None:
    """Return the share of this process in the mean of ``values`` (S,) over the ``labeled`` (S,) structures.

    The mean is taken over all processes. Shares are scaled so that their average over the processes is the mean;
    gradients are averaged, too, and become those of the mean. On all processes None where no process has a label.
    """
    count = summed(labeled.sum().to(torch.float64))
    if count == 0:
        return None
    # A process without a label gives a zero that still depends on its weights: their gradients are waited for.
    return process_count() * values[labeled].sum() / count


def summed(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, on each of them."""
    if process_count() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def gathered(value: T) -> list[T]:
    """Return the values of all processes in the order of ranks, on each of them."""
    if process_count() == 1:
        return [value]
    values: list[T | None] = [None] * process_count()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # each is filled


def from_rank_zero(function: Callable[[], T]) -> T:
    """Call ``function`` on rank 0 and broadcast the result."""
    if process_count() == 1:
        return function()
    value = [function() if is_rank_zero() else None]
    distributed.broadcast_object_list(value)
    return value[0]  # type: ignore[return-value]  # the first process sends what function gave


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0 before the other ranks run it: files that it downloads exist for them."""
    if not is_rank_zero():
        wait_for_all()
    yield
    if is_rank_zero():
        wait_for_all()


def wait_for_all() -> None:
    """Wait until all processes reach this call."""
    # A collective with a value: a barrier of nccl would need the device.
    gathered(None)
