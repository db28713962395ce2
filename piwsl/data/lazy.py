"""Sequences of frames that stay in their file and are read on access."""

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar, overload

from piwsl.data.census import Census
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError, PiwslError, reason_of


class UnknownLayoutError(DataError):
    """The file can be read but does not contain labeled structures in a known layout."""


class LazyFrames(Sequence[Frame], ABC):
    """Frames in a file, each validated when it is read. No open file is shared across a fork or pickled.

    Subclasses implement `read`, and can override `read_all` and `survey`. Any exception that a library raises for a
    damaged file becomes a DataError.

    Args:
        path: File with the frames.
        count: Number of frames.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self._count = count

    @abstractmethod
    def read(self, index: int) -> Frame:
        """Read one frame; 0 <= index < len(self)."""

    def read_all(self) -> Iterator[Frame]:
        """Read all frames in order."""
        return (self[index] for index in range(self._count))

    def survey(self) -> Census:
        """Collect the census of all frames."""
        return Census.of(self)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return FrameSet(self).select(range(self._count)[index]).frames
        place = range(self._count)[index]
        try:
            return self.read(place)
        except PiwslError:
            raise
        except Exception as error:  # libraries raise any exception for damaged files
            raise self._damaged(f"frame {place}", error) from error

    def __iter__(self) -> Iterator[Frame]:
        frames = self.read_all()
        for index in range(self._count):
            try:
                frame = next(frames)
            except PiwslError:
                raise
            except Exception as error:
                raise self._damaged(f"frame {index} or a frame soon after it", error) from error
            yield frame

    def census(self) -> Census:
        """Return the composition and labels of all frames.

        Raises:
            DataError: The file is damaged.
        """
        try:
            return self.survey()
        except PiwslError:
            raise
        except Exception as error:
            raise self._damaged("a frame", error) from error

    def _damaged(self, where: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: {where}: cannot be read, the file is damaged: copy or download it again ({reason_of(error)})"
        )

    def probe(self) -> None:
        """Read the first and the last frame to detect a damaged file early.

        Raises:
            DataError: The file contains no frame, or its first or last frame cannot be read.
        """
        if not self._count:
            raise DataError(f"{self.path}: contains no structure")
        for index in {0, self._count - 1}:
            self[index]


class JoinedFrames(Sequence[Frame]):
    """Concatenation of several sets of frames."""

    def __init__(self, parts: Sequence[FrameSet]) -> None:
        self.parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return FrameSet(self).select(range(len(self))[index]).frames
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self.parts[part][place - self._ends[part]]  # a negative index counts from the end of the part

    def __iter__(self) -> Iterator[Frame]:
        for part in self.parts:
            yield from part

    def census(self) -> Census:
        """Return the concatenated census of the parts."""
        return Census.joined([part.census for part in self.parts])


T = TypeVar("T")


class PerProcess(Generic[T]):
    """A handle that is opened on first use, and reopened in every forked process.

    HDF5, SQLite and LMDB do not allow a child process to use a handle that its parent opened. Objects that contain a
    handle are pickled without it, through ``__reduce__``.

    Args:
        open_: Function that opens the handle.
        close: Function that closes the handle. In a child process, it closes only the child's copy.
    """

    def __init__(self, open_: Callable[[], T], close: Callable[[T], None]) -> None:
        self._open = open_
        self._close = close
        self._handle: T | None = None
        self._process = -1

    def __call__(self) -> T:
        """Return the handle of this process."""
        if self._handle is None or self._process != os.getpid():
            self.close()
            self._handle = self._open()
            self._process = os.getpid()
        return self._handle

    def close(self) -> None:
        """Close the handle if it is open; the next call opens it again."""
        if self._handle is not None:
            self._close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()
