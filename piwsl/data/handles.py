"""Open files that survive neither a fork nor a pickle."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something open, opened at first use and once more in every process that inherits it by a fork.

    HDF5, SQLite and LMDB all forbid to use in a child process what its parent opened. Whoever holds one of these is
    pickled without it, by naming in ``__reduce__`` what it was made from.

    Args:
        open_: opens it.
        close: closes it; in a child this closes the copy of the child only.
    """

    def __init__(self, open_: Callable[[], T], close: Callable[[T], None]) -> None:
        self._open = open_
        self._close = close
        self._handle: T | None = None
        self._process = -1

    def __call__(self) -> T:
        """The open thing of this process."""
        if self._handle is None or self._process != os.getpid():
            self.close()
            self._handle = self._open()
            self._process = os.getpid()
        return self._handle

    def close(self) -> None:
        """Close it, if it is open; the next call opens it again."""
        if self._handle is not None:
            self._close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()
