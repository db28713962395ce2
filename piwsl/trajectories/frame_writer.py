"""Frames to be written, the interface of trajectory writers, and files that stay valid if the disk is full."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from piwsl.errors import RunDirectoryError
from piwsl.runs.files import writing
from piwsl.typing import FloatArray


@dataclass(frozen=True)
class OutputFrame:
    """One frame to be written.

    Attributes:
        step: Number of the MD step.
        time: Time, fs.
        positions: Positions (n, 3), angstrom.
        cell: Cell (3, 3) of a periodic structure, angstrom; None otherwise.
        velocities: Velocities (n, 3), angstrom/fs, if requested.
        forces: Forces (n, 3), eV/angstrom, if requested.
    """

    step: int
    time: float
    positions: FloatArray
    cell: FloatArray | None = None
    velocities: FloatArray | None = None
    forces: FloatArray | None = None


class TrajectoryWriter(Protocol):
    """Interface of the trajectory writers. Other processes can read flushed frames, even if the writer is killed."""

    def write(self, frame: OutputFrame) -> None:
        """Append a frame."""

    def flush(self) -> None:
        """Write buffered frames to the file.

        Raises:
            RunDirectoryError: The file cannot be written, for example because the disk is full.
        """

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""


def too_few(path: Path, frames: int, wanted: int) -> RunDirectoryError:
    """Return the error for a file that contains fewer frames than a restart needs."""
    return RunDirectoryError(f"{path}: contains {frames} frames, but the restart needs {wanted}: start a new run")


_WAITING = 1 << 20  # largest number of buffered bytes


class AppendFile:
    """Append bytes to a file through a buffer.

    If the disk accepts only part of the data, the file is truncated to the end of the last complete addition.

    Args:
        path: Path of the file.
        keep: Number of bytes of an existing file to keep; the file is truncated after them.

    Raises:
        RunDirectoryError: The file cannot be written.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        self._waiting = bytearray()
        self._ends: list[int] = []  # ends of the buffered additions
        with writing(path):
            self._file: BinaryIO = path.open("r+b" if keep else "wb", buffering=0)
            self._size = self._file.truncate(keep)

    @property
    def closed(self) -> bool:
        """Whether the file has been closed."""
        return self._file.closed

    def add(self, content: bytes) -> None:
        """Append bytes that are written completely or not at all."""
        self._waiting += content
        self._ends.append(len(self._waiting))
        if len(self._waiting) > _WAITING:
            self.flush()

    def flush(self) -> None:
        """Write buffered bytes to the file."""
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
        """Replace bytes in the file, such as a count in a header. The buffer must be empty."""
        with writing(self._path):
            self._file.seek(position)
            self._file.write(content)

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            with writing(self._path):
                self._file.close()
