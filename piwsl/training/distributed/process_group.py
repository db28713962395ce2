"""Collective operations between the processes of a run. In a run with one process, nothing is sent."""

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
    """Return the contribution of this process to the mean of ``values`` (S,) over structures with ``labeled`` (S,).

    The mean is taken over all processes. The contributions are scaled so that their average over the processes equals
    the mean. DDP averages gradients over processes, so the averaged gradient equals the gradient of the mean. If no
    process has a label, all processes return None.
    """
    count = summed(labeled.sum().to(torch.float64))
    if count == 0:
        return None
    # Without a label, the result is a zero that still depends on the weights, because DDP waits for their gradients.
    return process_count() * values[labeled].sum() / count


def summed(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes. Every process receives the result."""
    if process_count() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def gathered(value: T) -> list[T]:
    """Return the values of all processes in the order of their ranks. Every process receives the list."""
    if process_count() == 1:
        return [value]
    values: list[T | None] = [None] * process_count()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # all_gather_object fills every entry


def from_rank_zero(function: Callable[[], T]) -> T:
    """Call ``function`` on rank 0 and broadcast the result."""
    if process_count() == 1:
        return function()
    value = [function() if is_rank_zero() else None]
    distributed.broadcast_object_list(value)
    return value[0]  # type: ignore[return-value]  # rank 0 broadcasts a value of type T


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0 before all other ranks, so that the other ranks find files that rank 0 downloads."""
    if not is_rank_zero():
        wait_for_all()
    yield
    if is_rank_zero():
        wait_for_all()


def wait_for_all() -> None:
    """Wait until all processes reach this call."""
    # A collective call with an object, because a barrier of NCCL requires a device.
    gathered(None)
