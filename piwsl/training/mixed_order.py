"""Order of training frames of several kinds, with fixed numbers of each kind in each batch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from piwsl.typing import IntArray


class Order(Protocol):
    """Protocol of infinite orders of frames."""

    def frames(self, start: int, stop: int) -> IntArray:
        """Return the frames from position ``start`` up to ``stop``, exclusive."""


class AlternatingOrder:
    """Infinite order that takes frames from several sets in turn, so that each set has an equal part.

    Args:
        orders: Order of the frames of each set.
        offsets: Index of the first frame of each set.
    """

    def __init__(self, orders: Sequence[Order], offsets: Sequence[int]) -> None:
        self._orders = list(orders)
        self._offsets = list(offsets)

    def frames(self, start: int, stop: int) -> IntArray:
        """Return the frames from position ``start`` up to ``stop``, exclusive."""
        rounds, turns = np.divmod(np.arange(start, stop), len(self._orders))
        found = np.empty(stop - start, dtype=np.int64)
        for turn, (order, offset) in enumerate(zip(self._orders, self._offsets, strict=True)):
            chosen = turns == turn
            positions = rounds[chosen]
            if len(positions):
                found[chosen] = order.frames(int(positions[0]), int(positions[-1]) + 1) + offset
        return found


class MixedOrder:
    """Infinite order in which a fixed number of frames of each batch comes from a second set.

    The frames of both sets are spread evenly over a batch, so that all processes and parts of a step receive both.

    Args:
        first: Order of the frames of the first set.
        second: Order of the frames of the second set, whose indices follow those of the first set.
        offset: Number of frames in the first set.
        batch_size: Number of structures in a step.
        count: Number of structures of the second set in a step.
    """

    def __init__(self, first: Order, second: Order, offset: int, batch_size: int, count: int) -> None:
        places = np.arange(batch_size + 1) * count // batch_size
        self._is_second = np.diff(places) > 0
        self._place = np.where(self._is_second, places[:-1], np.arange(batch_size) - places[:-1])
        self._orders = (first, second)
        self._counts = (batch_size - count, count)
        self._offset = offset
        self._batch_size = batch_size

    def frames(self, start: int, stop: int) -> IntArray:
        """Return the frames from position ``start`` up to ``stop``, exclusive."""
        batches, places = np.divmod(np.arange(start, stop), self._batch_size)
        found = np.empty(stop - start, dtype=np.int64)
        for kind in (0, 1):
            chosen = self._is_second[places] == bool(kind)
            positions = batches[chosen] * self._counts[kind] + self._place[places[chosen]]
            if len(positions):
                part = self._orders[kind].frames(int(positions[0]), int(positions[-1]) + 1)
                found[chosen] = part + kind * self._offset
        return found
