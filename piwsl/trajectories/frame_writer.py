"""A frame of a trajectory, the interface of the writers, and files that survive a full disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from piwsl.errors import RunDirectoryError
from piwsl.runs.files import writing
from piwsl.typing import FloatArray


@dataclass(frozen=True)
class OutputFrame:
    """One frame that is written.

    Attributes:
        step: Of the run.
        time: Fs.
        positions: (n, 3) angstrom.
        cell: (3, 3) angstrom of a periodic structure.
        velocities: (n, 3) angstrom/fs, where requested.
        forces: (n, 3) eV/angstrom, where requested.
    """

    step: int
    time: float
    positions: FloatArray
    cell: FloatArray | None = None
    velocities: FloatArray | None = None
    forces: FloatArray | None = None


class TrajectoryWriter(Protocol):
    """Writes the frames of a run. Flushed frames can be read by other processes and survive a kill."""

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            RunDirectoryError: The file cannot be written, for example because the disk is full.
        """

    def close(self) -> None:
        """End the file; once more does nothing."""


def too_few(path: Path, frames: int, wanted: int) -> RunDirectoryError:
    """Return the error of a file that holds fewer frames than a restart needs."""
    return RunDirectoryError(f"{path}: holds {frames} frames, the restart needs {wanted}: start anew")


_WAITING = 1 << 20  # bytes that wait in memory at most


class AppendFile:
    """Appends bytes to a file. They wait in memory until a flush, or until there are many.

    If the disk takes only a part of them, the file is truncated to the end of the last whole addition.

    Args:
        path: File.
        keep: Bytes of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: The file cannot be written.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        self._waiting = bytearray()
        self._ends: list[int] = []  # of the additions that wait
        with writing(path):
            self._file: BinaryIO = path.open("r+b" if keep else "wb", buffering=0)
            self._size = self._file.truncate(keep)

    @property
    def closed(self) -> bool:
        """Whether the file was ended."""
        return self._file.closed

    def add(self, content: bytes) -> None:
        """Add something that belongs together."""
        self._waiting += content
        self._ends.append(len(self._waiting))
        if len(self._waiting) > _WAITING:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if not self._waiting:
            return
        content, ends = memoryview(self._waiting), self._ends
        self._waiting, self._ends = bytearray(), []
        with writing(self._path):
            self._file.seek(self._size)
            taken = 0
            try:
                while taken < len(content):
                    taken += self._file.write(content[taken:])
            except OSError:
                taken = max((end for end in ends if end <= taken), default=0)
                self._file.truncate(self._size + taken)
                raise
            finally:
                self._size += taken

    def overwrite(self, position: int, content: bytes) -> None:
        """Replace bytes, such as a count in a header; nothing must be waiting."""
        with writing(self._path):
            self._file.seek(position)
            self._file.write(content)

    def close(self) -> None:
        """Flush and end the file; once more does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            with writing(self._path):
                self._file.close()
