"""XTC: compressed positions, rounded to 0.01 angstrom, and the cell, by mdtraj."""

from pathlib import Path
from typing import Any

import numpy as np
from mdtraj.formats import XTCTrajectoryFile

from piwsl.data.files import atomic_path
from piwsl.errors import DataError
from piwsl.md.analysis.trajectory_files import whole_xtc_frames
from piwsl.md.output.frame import OutputFrame, too_few, writing
from piwsl.units import NANOMETER, PICOSECOND

_COPIED = 1000  # frames at a time


class XtcWriter:
    """An XTC file.

    Args:
        path: file.
        keep: frames of an existing file to keep. mdtraj cannot go on in a file: these are copied, and the file is
            replaced as a whole, so an interruption here leaves the old one.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        self._good = self._expected = 0  # bytes that are there for sure, frames since
        with writing(path):
            if keep == 0:
                self._file: Any = XTCTrajectoryFile(str(path), "w")
                return
            found = _frames(path)
            if found < keep:
                raise too_few(path, found, keep)
            with atomic_path(path) as temporary:
                self._file = XTCTrajectoryFile(str(temporary), "w")
                with XTCTrajectoryFile(str(path)) as old:
                    for first in range(0, keep, _COPIED):
                        self._file.write(*old.read(min(_COPIED, keep - first)))
                self._file.flush()
                if _frames(temporary) < keep:
                    raise OSError("the disk took only a part")
                self._good = temporary.stat().st_size

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        box = None if frame.cell is None else np.asarray(frame.cell / NANOMETER, dtype=np.float32)[None]
        with writing(self._path):
            self._file.write(
                np.asarray(frame.positions / NANOMETER, dtype=np.float32)[None],
                time=np.array([frame.time / PICOSECOND], dtype=np.float32),
                step=np.array([frame.step], dtype=np.int32),
                box=box,
            )
        self._expected += 1

    def flush(self) -> None:
        """Hand everything to the operating system; mdtraj does not say where it refuses, so the file is looked at."""
        with writing(self._path):
            self._file.flush()
            frames, spare = whole_xtc_frames(self._path, self._good) if self._expected else (0, 0)
            if frames != self._expected or spare:
                raise OSError("the disk took only a part")
            self._good, self._expected = self._path.stat().st_size, 0

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _frames(path: Path) -> int:
    try:
        return whole_xtc_frames(path)[0]
    except (DataError, FileNotFoundError):
        return 0
