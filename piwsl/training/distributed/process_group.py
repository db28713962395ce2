"""What the processes of one run say to each other; in a run of one process nothing is sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def process_count() -> int:
    """Processes of the run."""
    return distributed.get_world_size() if _together() else 1


def process_rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def is_rank_zero() -> bool:
    """Whether this is the process that writes files and talks to the user."""
    return process_rank() == 0


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def global_mean(values: Tensor, labeled: Tensor) -> Tensor | None:
    """This process's share of the mean of ``values`` (S,) over the ``labeled`` (S,) structures of all processes.

    The shares are scaled so that their average over the processes is that mean. The gradients of the processes are
    averaged, too, so they become those of the mean. None, on all processes, where no process has a label.
    """
    count = summed(labeled.sum().to(torch.float64))
    if count == 0:
        return None
    # A process without a label gives a zero that still depends on its weights: their gradients are waited for.
    return process_count() * values[labeled].sum() / count


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes, the same on each."""
    if process_count() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def gathered(value: T) -> list[T]:
    """The values of all processes, in their order, on each of them."""
    if process_count() == 1:
        return [value]
    values: list[T | None] = [None] * process_count()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # each is filled


def from_rank_zero(function: Callable[[], T]) -> T:
    """What ``function`` gives in the first process, for all; it is called nowhere else."""
    if process_count() == 1:
        return function()
    value = [function() if is_rank_zero() else None]
    distributed.broadcast_object_list(value)
    return value[0]  # type: ignore[return-value]  # the first process sends what function gave


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """The first process runs the block before the others do: what it downloads is there for them."""
    if not is_rank_zero():
        wait_for_all()
    yield
    if is_rank_zero():
        wait_for_all()


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    # A collective with a value: a barrier of nccl would need the device.
    gathered(None)
