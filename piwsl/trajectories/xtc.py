"""XTC trajectories: compressed positions, rounded to 0.01 angstrom, and cells.

mdtraj's writer can neither append to a file nor report a full disk. Frames are therefore compressed into a scratch file
by mdtraj, and its contents are appended to the trajectory.
"""

import errno
import struct
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from piwsl.errors import DataError
from piwsl.runs.files import writing
from piwsl.runs.reader_process import read_apart
from piwsl.runs.scratch import scratch_directory
from piwsl.trajectories.decoding import xtc_frames
from piwsl.trajectories.frame_source import Piece, TrajectoryFile, checked_cells, cut_note
from piwsl.trajectories.frame_writer import AppendFile, OutputFrame, too_few
from piwsl.trajectories.orientation import oriented
from piwsl.units import NANOMETER, PICOSECOND

_MAGIC, _WIDE_MAGIC = 1995, 2023  # the second format stores sizes in 64 bits
_MOST_ATOMS_PER_BYTE = 8  # compressed data need at least one bit per atom


def frame_ends(stream: BinaryIO, name: object) -> Iterator[int]:
    """Yield the offset of the end of each complete frame, in bytes.

    Args:
        stream: Binary stream at the start of the file.
        name: Name of the file, used in messages.

    Raises:
        DataError: The file is damaged or not an XTC file.
    """
    size = stream.seek(0, 2)
    frames = position = 0
    while True:
        stream.seek(position)
        head = stream.read(96)
        if len(head) < 56:
            return
        magic, atoms = struct.unpack(">ii", head[:8])
        if magic not in (_MAGIC, _WIDE_MAGIC):
            raise DataError(f"{name}: not an XTC file, or damaged after frame {frames}")
        try:
            position += _frame_bytes(head, atoms, magic == _WIDE_MAGIC, size)
        except ValueError as error:
            raise DataError(f"{name}: damaged after frame {frames} ({error})") from None
        if position > size:
            return
        frames += 1
        yield position


def _frame_bytes(head: bytes, atoms: int, wide: bool, size: int) -> int:
    """Return the length of a frame in bytes; larger than the file if the header is truncated.

    Raises:
        ValueError: The header is inconsistent.
    """
    if not 0 < atoms:
        raise ValueError(f"{atoms} atoms")
    if atoms <= 9:
        return 56 + 12 * atoms
    start = 96 if wide else 92
    if len(head) < start:
        return size + 1
    (count,) = struct.unpack(">q" if wide else ">i", head[88:start])
    numbers = struct.unpack(">if6ii", head[52:88])
    inner, precision, lowest, highest = numbers[0], numbers[1], numbers[2:5], numbers[5:8]
    if inner != atoms or any(low > high for low, high in zip(lowest, highest, strict=True)):
        raise ValueError("the header is inconsistent")
    if not 0 < precision < np.inf:
        raise ValueError(f"its precision is {precision:g}")
    if not 0 < atoms <= _MOST_ATOMS_PER_BYTE * count:
        raise ValueError(f"{atoms} atoms in {count} bytes")
    return int(start + (count + 3) // 4 * 4)


def open_xtc(path: Path) -> TrajectoryFile:
    """Open an XTC file, count its frames and read their times.

    Raises:
        DataError: The file is damaged.
    """
    atoms = spare = 0
    times: list[float] = []
    with path.open("rb") as file:
        start = 0
        for end in frame_ends(file, path):
            file.seek(start)
            _, count, _, time = struct.unpack(">iiif", file.read(16))
            if atoms and count != atoms:
                raise DataError(
                    f"{path}: damaged: frame {len(times) + 1} has {count} atoms, but the first frame has {atoms}"
                )
            atoms = count
            times.append(time * PICOSECOND)
            start = end
        spare = file.seek(0, 2) - start
    frames = len(times)

    def read() -> Iterator[Piece]:
        for arrays in read_apart(xtc_frames, path, frames):
            cells = arrays.get("cells")
            yield arrays["positions"], None if cells is None else checked_cells(path, cells)

    return TrajectoryFile(atoms, frames, np.array(times), read, cut_note(path, frames, spare))


_WAITING = 100  # largest number of buffered frames


class XtcWriter:
    """Write an XTC file. Periodic structures are rotated to the standard orientation of the cell.

    Args:
        path: Path of the file.
        keep: Number of frames of an existing file to keep; the file is truncated after them.

    Raises:
        RunDirectoryError: The existing file contains fewer frames, or the file cannot be written.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._file = AppendFile(path, _bytes_to_keep(path, keep) if keep else 0)
        self._waiting: list[OutputFrame] = []

    def write(self, frame: OutputFrame) -> None:
        """Append a frame."""
        self._waiting.append(oriented(frame))
        if len(self._waiting) >= _WAITING:
            self.flush()

    def flush(self) -> None:
        """Write buffered frames to the file."""
        if self._waiting:
            frames, self._waiting = self._waiting, []
            self._file.add(_compressed(frames))
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""
        try:
            self.flush()
        finally:
            self._file.close()


def _compressed(frames: list[OutputFrame]) -> bytes:
    from mdtraj.formats import XTCTrajectoryFile

    cells = [np.zeros((3, 3)) if frame.cell is None else frame.cell for frame in frames]
    with scratch_directory("xtc") as folder, writing(scratch := folder / "frames.xtc", (OSError, RuntimeError)):
        with XTCTrajectoryFile(str(scratch), "w") as file:
            file.write(
                np.array([frame.positions / NANOMETER for frame in frames], dtype=np.float32),
                time=np.array([frame.time / PICOSECOND for frame in frames], dtype=np.float32),
                step=np.array([frame.step for frame in frames], dtype=np.int32),
                box=np.array([cell / NANOMETER for cell in cells], dtype=np.float32),
            )
        content = scratch.read_bytes()
        if list(frame_ends(BytesIO(content), scratch))[len(frames) - 1 :] != [len(content)]:
            raise OSError(errno.ENOSPC, "mdtraj wrote only part of the frames")
    return content


def _bytes_to_keep(path: Path, keep: int) -> int:
    ends: list[int] = []
    try:
        with path.open("rb") as stream:
            for end in islice(frame_ends(stream, path), keep):
                ends.append(end)
    except (DataError, FileNotFoundError):
        pass  # the frames before are complete
    if len(ends) < keep:
        raise too_few(path, len(ends), keep)
    return ends[-1]
