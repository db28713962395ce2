"""DCD: single precision positions and the cell's lengths and angles, in frames of one size.

Written here, and not by mdtraj, whose writer cannot go on in a file and does not report a full disk.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ase.geometry import cell_to_cellpar

from piwsl.errors import DataError
from piwsl.md.analysis.dcd import DcdFile
from piwsl.md.output.frame import OutputFrame, too_few, writing

_TITLE = b"written by piwsl".ljust(80)
_AKMA_TIME = 48.88821291839  # fs, the unit of time in the header
_FRAME_COUNT = 8  # bytes from the start of the file


class DcdWriter:
    """A DCD file of a structure.

    Args:
        path: file.
        atoms: their number.
        periodic: whether frames have a cell.
        interval: steps between frames.
        timestep: fs.
        keep: frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, atoms: int, periodic: bool, interval: int, timestep: float, keep: int = 0) -> None:
        self._path, self._atoms, self._periodic = path, atoms, periodic
        self._frames = keep
        with writing(path):
            if keep:
                self._file: BinaryIO = self._cut(keep)
            else:
                self._file = path.open("wb")
                self._file.write(self._header(interval, timestep))
                self._file.flush()

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        with writing(self._path):
            if self._periodic:
                assert frame.cell is not None
                a, b, c, alpha, beta, gamma = cell_to_cellpar(frame.cell)
                cosines = np.cos(np.radians([gamma, beta, alpha]))
                self._record(struct.pack("<6d", a, cosines[0], b, cosines[1], cosines[2], c))
            for axis in np.ascontiguousarray(frame.positions.T, dtype="<f4"):
                self._record(axis.tobytes())
        self._frames += 1

    def flush(self) -> None:
        """Hand everything to the operating system, with the number of frames in the header."""
        with writing(self._path):
            self._file.flush()
            self._file.seek(_FRAME_COUNT)
            self._file.write(struct.pack("<i", self._frames))
            self._file.seek(0, 2)
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                with writing(self._path):
                    self._file.close()

    def _record(self, content: bytes) -> None:
        length = struct.pack("<i", len(content))
        self._file.write(length + content + length)

    def _header(self, interval: int, timestep: float) -> bytes:
        control = struct.pack("<9i", 0, interval, interval, 0, 0, 0, 0, 0, 0)
        control += struct.pack("<f10i", timestep / _AKMA_TIME, int(self._periodic), *[0] * 8, 24)
        records = [b"CORD" + control, struct.pack("<i", 1) + _TITLE, struct.pack("<i", self._atoms)]
        return b"".join(struct.pack("<i", len(one)) + one + struct.pack("<i", len(one)) for one in records)

    def _cut(self, keep: int) -> BinaryIO:
        """Open the file behind its first frames. Cutting twice does no harm."""
        try:
            found = DcdFile.open(self._path)
        except (DataError, FileNotFoundError):
            raise too_few(self._path, 0, keep) from None
        if found.frames < keep:
            raise too_few(self._path, found.frames, keep)
        file = self._path.open("r+b")
        file.truncate(found.bytes_of(keep))
        file.seek(0, 2)
        return file
