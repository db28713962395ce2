"""DCD trajectories: positions in single precision, and lengths and angles of the cell, in frames of equal size.

This module contains a writer, because mdtraj's writer can neither append to a file nor report a full disk.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.geometry import cell_to_cellpar

from piwsl.errors import DataError
from piwsl.structures.cells import cell_vectors
from piwsl.trajectories.decoding import piece_ranges
from piwsl.trajectories.frame_source import MIXED_CELLS, Piece, TrajectoryFile, checked_cells, cut_note
from piwsl.trajectories.frame_writer import AppendFile, OutputFrame, too_few
from piwsl.trajectories.orientation import oriented
from piwsl.typing import FloatArray

_HEADER_RECORD = 84  # bytes; its value also shows the byte order
_CELL_RECORD = 48


@dataclass(frozen=True)
class DcdFile:
    """Layout of a DCD file.

    Attributes:
        path: Path of the file.
        atoms: Number of atoms.
        frames: Number of complete frames in the file.
        spare: Number of bytes after the last complete frame; not 0 if the file is truncated.
    """

    path: Path
    atoms: int
    frames: int
    spare: int
    _start: int
    _frame: np.dtype[np.void]

    @classmethod
    def open(cls, path: Path) -> "DcdFile":
        """Read the header of a file.

        Raises:
            DataError: The file is not a DCD file, or has fixed atoms or four dimensions, which are not supported.
        """
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(4 + _HEADER_RECORD + 4)
            order = next((o for o in "<>" if head[:4] == np.array(_HEADER_RECORD, o + "i4").tobytes()), None)
            if order is None or head[4:8] != b"CORD" or len(head) < 92:
                raise DataError(f"{path}: not a DCD file, or truncated within the header")
            control = np.frombuffer(head[8:88], order + "i4")
            titles = np.frombuffer(stream.read(4), order + "i4")
            after_titles = 92 + 8 + int(titles[0]) if len(titles) else size
            if not 92 <= after_titles <= size:
                raise DataError(f"{path}: not a DCD file, or truncated within the header")
            stream.seek(after_titles)
            record = np.frombuffer(stream.read(12)[:12].ljust(12, b"\0"), order + "i4")
        if record[0] != 4 or record[2] != 4 or record[1] < 1:
            raise DataError(f"{path}: not a DCD file, or truncated within the header")
        if control[8] != 0 or control[11] != 0:
            raise DataError(
                f"{path}: fixed atoms or four dimensions are not supported: convert it to XTC with mdconvert"
            )
        atoms, start = int(record[1]), after_titles + 12
        if size == start:
            raise DataError(f"{path}: contains no complete frame: nothing can be analyzed")
        if 12 * atoms > size:
            raise DataError(
                f"{path}: the header states {atoms} atoms, but the file has no complete frame: truncated or damaged"
            )
        fields: list[tuple[str, str] | tuple[str, str, int]] = []
        if control[10] != 0:
            fields += [("cell_head", order + "i4"), ("cell", order + "f8", 6), ("cell_tail", order + "i4")]
        for axis in "xyz":
            fields += [(f"{axis}_head", order + "i4"), (axis, order + "f4", atoms), (f"{axis}_tail", order + "i4")]
        frame = np.dtype(fields)
        frames, spare = divmod(max(size - start, 0), frame.itemsize)
        return cls(path, atoms, frames, spare, start, frame)

    def bytes_of(self, frames: int) -> int:
        """Return the size in bytes of a file with only the first ``frames`` frames."""
        return self._start + frames * self._frame.itemsize

    def read(self, first: int, last: int) -> FloatArray:
        """Return the positions (last - first, atoms, 3) of a range of frames, angstrom, float32.

        Raises:
            DataError: The frames are damaged.
        """
        records = self._records(first, last)
        if any((records[f"{axis}_{end}"] != 4 * self.atoms).any() for axis in "xyz" for end in ("head", "tail")):
            raise DataError(f"{self.path}: damaged between frames {first + 1} and {last}")
        return np.stack([records[axis] for axis in "xyz"], axis=-1).astype(np.float32)

    def cells(self, first: int, last: int) -> FloatArray | None:
        """Return the cell vectors in rows (last - first, 3, 3) of a range of frames, angstrom; None without cells."""
        if "cell" not in (self._frame.names or ()):
            return None
        records = self._records(first, last)["cell"]
        # a, gamma, b, beta, alpha, c; angles in degrees, or as cosines (CHARMM, NAMD, OpenMM).
        lengths, angles = records[:, [0, 2, 5]].astype(np.float64), records[:, [4, 3, 1]].astype(np.float64)
        periodic = (lengths > 0).any(axis=1)
        if not periodic.any():
            return None
        if not periodic.all():
            raise DataError(f"{self.path}: {MIXED_CELLS}")
        cosines = np.abs(angles).max(axis=1) <= 1.0
        angles[cosines] = np.degrees(np.arccos(angles[cosines]))
        return checked_cells(self.path, cell_vectors(lengths, angles))

    def _records(self, first: int, last: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.void]]":
        """Read the records of a range of frames in the layout of the file."""
        offset = self._start + first * self._frame.itemsize
        return np.fromfile(self.path, self._frame, last - first, offset=offset)


def open_dcd(path: Path) -> TrajectoryFile:
    """Open a DCD file and count its frames.

    Raises:
        DataError: The file is damaged.
    """
    file = DcdFile.open(path)

    def read() -> Iterator[Piece]:
        for first, last in piece_ranges(file.frames):
            yield file.read(first, last), file.cells(first, last)

    return TrajectoryFile(file.atoms, file.frames, None, read, cut_note(path, file.frames, file.spare))


_TITLE = b"written by piwsl".ljust(80)
_AKMA_TIME = 48.88821291839  # fs; unit of time in the header
_FRAME_COUNT = 8  # offset of the frame count, bytes


class DcdWriter:
    """Write a DCD file. Periodic structures are rotated to the standard orientation of the cell.

    Args:
        path: Path of the file.
        atoms: Number of atoms.
        periodic: Whether frames have a cell.
        interval: Number of steps between frames.
        timestep: Time step, fs.
        keep: Number of frames of an existing file to keep; the file is truncated after them.

    Raises:
        RunDirectoryError: The existing file contains fewer frames, or the file cannot be written.
    """

    def __init__(self, path: Path, atoms: int, periodic: bool, interval: int, timestep: float, keep: int = 0) -> None:
        self._atoms, self._periodic, self._frames = atoms, periodic, keep
        self._file = AppendFile(path, _bytes_to_keep(path, keep) if keep else 0)
        if keep:
            self.flush()
        else:
            self._file.add(self._header(interval, timestep))

    def write(self, frame: OutputFrame) -> None:
        """Append a frame."""
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
        """Write buffered frames to the file, and then the number of frames to the header."""
        self._file.flush()
        self._file.overwrite(_FRAME_COUNT, struct.pack("<i", self._frames))

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""
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
    """Join Fortran records, each preceded and followed by its length."""
    return b"".join(struct.pack("<i", len(record)) + record + struct.pack("<i", len(record)) for record in records)


def _bytes_to_keep(path: Path, keep: int) -> int:
    try:
        file = DcdFile.open(path)
    except (DataError, FileNotFoundError):
        raise too_few(path, 0, keep) from None
    if file.frames < keep:
        raise too_few(path, file.frames, keep)
    return file.bytes_of(keep)
