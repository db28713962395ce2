"""XTC: compressed positions, rounded to 0.01 angstrom, and the cell.

mdtraj compresses, in a scratch file, since its writer cannot go on in a file and does not report a full disk. An XTC
file is its frames, one after another, so theirs are added to ours.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from mdtraj.formats import XTCTrajectoryFile

from piwsl.errors import DataError
from piwsl.md.analysis.frames.xtc import frame_ends
from piwsl.md.output.append import AppendFile
from piwsl.md.output.frame import OutputFrame, too_few, writing
from piwsl.md.output.orientation import oriented
from piwsl.units import NANOMETER, PICOSECOND

_WAITING = 100  # frames that wait in memory at most


class XtcWriter:
    """An XTC file. Structures with a cell are turned to its standard orientation.

    Args:
        path: file.
        keep: frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._file = AppendFile(path, _bytes_to_keep(path, keep) if keep else 0)
        self._waiting: list[OutputFrame] = []

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        self._waiting.append(oriented(frame))
        if len(self._waiting) >= _WAITING:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._waiting:
            frames, self._waiting = self._waiting, []
            self._file.add(_compressed(frames))
        self._file.flush()

    def close(self) -> None:
        """End the file; once more does nothing."""
        try:
            self.flush()
        finally:
            self._file.close()


def _compressed(frames: list[OutputFrame]) -> bytes:
    cells = [np.zeros((3, 3)) if frame.cell is None else frame.cell for frame in frames]
    with _scratch_file() as scratch, writing(scratch, (OSError, RuntimeError)):
        with XTCTrajectoryFile(str(scratch), "w") as file:
            file.write(
                np.array([frame.positions / NANOMETER for frame in frames], dtype=np.float32),
                time=np.array([frame.time / PICOSECOND for frame in frames], dtype=np.float32),
                step=np.array([frame.step for frame in frames], dtype=np.int32),
                box=np.array([cell / NANOMETER for cell in cells], dtype=np.float32),
            )
        content = scratch.read_bytes()
        if list(frame_ends(BytesIO(content), scratch))[len(frames) - 1 :] != [len(content)]:
            raise OSError(errno.ENOSPC, "mdtraj wrote only a part")
    return content


@contextmanager
def _scratch_file() -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix="piwsl-", suffix=".xtc")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _bytes_to_keep(path: Path, keep: int) -> int:
    ends: list[int] = []
    try:
        with path.open("rb") as stream:
            for end in islice(frame_ends(stream, path), keep):
                ends.append(end)
    except (DataError, FileNotFoundError):
        pass  # what comes before is whole
    if len(ends) < keep:
        raise too_few(path, len(ends), keep)
    return ends[-1]
