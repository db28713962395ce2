"""Order of training frames of two kinds, with fixed numbers of both in each batch."""

from typing import Protocol

import numpy as np

from piwsl.errors import ConfigError
from piwsl.typing import IntArray


class Order(Protocol):
    """Protocol of infinite orders of frames."""

    def frames(self, start: int, stop: int) -> IntArray:
        """Return the frames from position ``start`` up to ``stop``, exclusive."""


class MixedOrder:
    """Infinite order in which a fixed share of each batch comes from a second set of frames.

    The frames of both sets are spread evenly over a batch, so that all processes and parts of a step receive both.

    Args:
        first: Order of the frames of the first set.
        second: Order of the frames of the second set, whose indices follow those of the first set.
        offset: Number of frames in the first set.
        batch_size: Number of structures in a step.
        share: Fraction of each batch from the second set; at least one structure of a batch comes from each set.

    Raises:
        ConfigError: The batch size is less than 2.
    """

    def __init__(self, first: Order, second: Order, offset: int, batch_size: int, share: float) -> None:
        if batch_size < 2:
            raise ConfigError(
                "optimizer.batch_size = 1 leaves no room for frames with and without labels in a batch: use at least 2"
            )
        count = min(batch_size - 1, max(1, round(share * batch_size)))
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
