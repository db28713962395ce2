"""DCD trajectories: whole frames only, and nothing printed.

mdtraj reads DCD through a plugin that writes to the standard output of the process, which `piwsl analyze --json`
needs for itself. The format is a header and frames of one size: Fortran records of an optional cell, x, y and z.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from piwsl.errors import DataError
from piwsl.md.analysis.frames.cells import cell_vectors, complete_cells
from piwsl.typing import FloatArray

_HEADER_RECORD = 84  # bytes; also tells the byte order
_CELL_RECORD = 48


@dataclass(frozen=True)
class DcdFile:
    """Layout of a DCD file.

    Attributes:
        path: the file.
        atoms: number of atoms.
        frames: whole frames in the file.
        spare: bytes after the last whole frame: more than none where the file was cut.
    """

    path: Path
    atoms: int
    frames: int
    spare: int
    _start: int
    _frame: np.dtype[np.void]

    @classmethod
    def open(cls, path: Path) -> "DcdFile":
        """Read the header.

        Raises:
            DataError: not a DCD file, or of a kind that no MD engine of ours writes (fixed atoms, four dimensions).
        """
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(4 + _HEADER_RECORD + 4)
            order = next((o for o in "<>" if head[:4] == np.array(_HEADER_RECORD, o + "i4").tobytes()), None)
            if order is None or head[4:8] != b"CORD" or len(head) < 92:
                raise DataError(f"{path}: not a DCD file, or cut within its header")
            control = np.frombuffer(head[8:88], order + "i4")
            titles = np.frombuffer(stream.read(4), order + "i4")
            after_titles = 92 + 8 + int(titles[0]) if len(titles) else size
            stream.seek(after_titles)
            record = np.frombuffer(stream.read(12)[:12].ljust(12, b"\0"), order + "i4")
        if record[0] != 4 or record[2] != 4 or record[1] < 1:
            raise DataError(f"{path}: not a DCD file, or cut within its header")
        if control[8] != 0 or control[11] != 0:
            raise DataError(f"{path}: a DCD file with fixed atoms or four dimensions: convert it to XTC with mdconvert")
        atoms, start = int(record[1]), after_titles + 12
        fields: list[tuple[str, str] | tuple[str, str, int]] = []
        if control[10] != 0:
            fields += [("cell_head", order + "i4"), ("cell", order + "f8", 6), ("cell_tail", order + "i4")]
        for axis in "xyz":
            fields += [(f"{axis}_head", order + "i4"), (axis, order + "f4", atoms), (f"{axis}_tail", order + "i4")]
        frame = np.dtype(fields)
        frames, spare = divmod(max(size - start, 0), frame.itemsize)
        return cls(path, atoms, frames, spare, start, frame)

    def bytes_of(self, frames: int) -> int:
        """Size of the file with its first frames alone."""
        return self._start + frames * self._frame.itemsize

    def read(self, first: int, last: int) -> FloatArray:
        """Positions (last - first, atoms, 3) of these frames, angstrom, float32.

        Raises:
            DataError: the frames are damaged.
        """
        found = self._records(first, last)
        if any((found[f"{axis}_{end}"] != 4 * self.atoms).any() for axis in "xyz" for end in ("head", "tail")):
            raise DataError(f"{self.path}: damaged between frames {first + 1} and {last}")
        return np.stack([found[axis] for axis in "xyz"], axis=-1).astype(np.float32)

    def cells(self, first: int, last: int) -> FloatArray | None:
        """Cell vectors in rows (last - first, 3, 3) of these frames, angstrom; None where they have none."""
        if "cell" not in (self._frame.names or ()):
            return None
        found = self._records(first, last)["cell"]
        # a, gamma, b, beta, alpha, c; the angles in degrees, or as their cosines (CHARMM, NAMD, OpenMM).
        lengths, angles = found[:, [0, 2, 5]].astype(np.float64), found[:, [4, 3, 1]].astype(np.float64)
        if not (lengths > 0).any(axis=1).all():
            return None
        cosines = np.abs(angles).max(axis=1) <= 1.0
        angles[cosines] = np.degrees(np.arccos(angles[cosines]))
        return complete_cells(cell_vectors(lengths, angles))

    def _records(self, first: int, last: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.void]]":
        """The frames as they are in the file."""
        offset = self._start + first * self._frame.itemsize
        return np.fromfile(self.path, self._frame, last - first, offset=offset)
