"""A frame of a trajectory, and what writes it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from piwsl.errors import RunDirectoryError
from piwsl.typing import FloatArray

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True)
class OutputFrame:
    """Positions (n, 3) in angstrom and what goes with them.

    Attributes:
        step: of the run.
        time: fs.
        positions: (n, 3) angstrom.
        cell: (3, 3) angstrom of a periodic structure.
        velocities: (n, 3) angstrom/fs, where they are asked for.
        forces: (n, 3) eV/angstrom, where they are asked for.
    """

    step: int
    time: float
    positions: FloatArray
    cell: FloatArray | None = None
    velocities: FloatArray | None = None
    forces: FloatArray | None = None


class TrajectoryWriter(Protocol):
    """Frames of a run, one after another. What was flushed can be read by others, and survives a kill."""

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            RunDirectoryError: it does not take it: a full disk, say.
        """

    def close(self) -> None:
        """End the file; once more does nothing."""


@contextmanager
def writing(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Failures of the disk as one line.

    Args:
        path: that is written.
        errors: how the library that writes reports them.

    Raises:
        RunDirectoryError: instead of these.
    """
    try:
        yield
    except errors as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        advice = "make room" if number in _FULL else "make it writable"
        raise RunDirectoryError(
            f"{path}: cannot be written ({reason}): {advice}, then continue with --restart"
        ) from None


def too_few(path: Path, frames: int, wanted: int) -> RunDirectoryError:
    """The error of a file that holds fewer frames than a restart needs."""
    return RunDirectoryError(f"{path}: holds {frames} frames, the restart needs {wanted}: start anew")
