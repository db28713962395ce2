"""DCD: single precision positions and the cell's lengths and angles, in frames of one size.

Written here, and not by mdtraj, whose writer cannot go on in a file and does not report a full disk.
"""

import struct
from pathlib import Path

import numpy as np
from ase.geometry import cell_to_cellpar

from piwsl.errors import DataError
from piwsl.md.analysis.frames.dcd import DcdFile
from piwsl.md.output.append import AppendFile
from piwsl.md.output.frame import OutputFrame, too_few
from piwsl.md.output.orientation import oriented

_TITLE = b"written by piwsl".ljust(80)
_AKMA_TIME = 48.88821291839  # fs, the unit of time in the header
_FRAME_COUNT = 8  # bytes from the start of the file


class DcdWriter:
    """A DCD file of a structure. Structures with a cell are turned to its standard orientation.

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
        self._atoms, self._periodic, self._frames = atoms, periodic, keep
        self._file = AppendFile(path, _bytes_to_keep(path, keep) if keep else 0)
        if keep:
            self.flush()
        else:
            self._file.add(self._header(interval, timestep))

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        frame, records = oriented(frame), []
        if self._periodic:
            assert frame.cell is not None
            a, b, c, alpha, beta, gamma = cell_to_cellpar(frame.cell)
            cosines = np.cos(np.radians([gamma, beta, alpha]))
            records.append(struct.pack("<6d", a, cosines[0], b, cosines[1], cosines[2], c))
        records += [axis.tobytes() for axis in np.ascontiguousarray(frame.positions.T, dtype="<f4")]
        self._file.add(_joined(records))
        self._frames += 1

    def flush(self) -> None:
        """Hand everything to the operating system, and then the number of frames to the header."""
        self._file.flush()
        self._file.overwrite(_FRAME_COUNT, struct.pack("<i", self._frames))

    def close(self) -> None:
        """End the file; once more does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()

    def _header(self, interval: int, timestep: float) -> bytes:
        control = struct.pack("<9i", 0, interval, interval, 0, 0, 0, 0, 0, 0)
        control += struct.pack("<f10i", timestep / _AKMA_TIME, int(self._periodic), *[0] * 8, 24)
        return _joined([b"CORD" + control, struct.pack("<i", 1) + _TITLE, struct.pack("<i", self._atoms)])


def _joined(records: list[bytes]) -> bytes:
    """Records of Fortran: each between its length and its length."""
    return b"".join(struct.pack("<i", len(one)) + one + struct.pack("<i", len(one)) for one in records)


def _bytes_to_keep(path: Path, keep: int) -> int:
    try:
        found = DcdFile.open(path)
    except (DataError, FileNotFoundError):
        raise too_few(path, 0, keep) from None
    if found.frames < keep:
        raise too_few(path, found.frames, keep)
    return found.bytes_of(keep)
