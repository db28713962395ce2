"""Extended XYZ: text with positions, velocities and forces, readable by ASE and by people."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.io.extxyz import read_xyz

from piwsl.errors import DataError, reason_of
from piwsl.structures.cells import complete_cells
from piwsl.trajectories.decoding import PIECE
from piwsl.trajectories.frame_source import Piece, TrajectoryFile, cut_note
from piwsl.trajectories.frame_writer import AppendFile, OutputFrame, too_few
from piwsl.typing import FloatArray, IntArray

_TIME = re.compile(r"\btime_fs=\"?([^\s\"]+)")
# Only of frames that state their time in fs: the columns of others are in other units.
_VELOCITIES = re.compile(r"\bProperties=\S*:velocities:R:3")
_READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError, StopIteration)


@dataclass(frozen=True)
class ExtxyzFile:
    """An extended XYZ file whose frames were counted.

    Attributes:
        path: The file.
        atoms, frames: Their numbers; whole frames only.
        times: (frames,) fs, where every frame states ``time_fs``.
        is_cut: Whether the file ends within a frame.
        has_velocities: Whether every frame has the columns ``velocities``, in angstrom/fs, of `piwsl md`.
    """

    path: Path
    atoms: int
    frames: int
    times: FloatArray | None
    is_cut: bool
    has_velocities: bool = False

    @classmethod
    def open(cls, path: Path) -> "ExtxyzFile":
        """Count the frames and collect their times.

        Raises:
            DataError: Not extended XYZ, or frames of different numbers of atoms.
        """
        sizes, times = set(), []
        frames = 0
        moving = 0
        is_cut = False
        with path.open(encoding="utf-8") as stream:
            try:
                for lines in _frames(stream):
                    is_cut = len(lines) < int(lines[0]) + 2 or not lines[-1].endswith("\n")
                    if is_cut:
                        break
                    frames += 1
                    sizes.add(int(lines[0]))
                    moving += bool(_VELOCITIES.search(lines[1]))
                    match = _TIME.search(lines[1])
                    if match:
                        times.append(float(match.group(1)))
            except _READ_ERRORS as error:
                raise _not_extxyz(path, frames, error) from None
        if len(sizes) > 1:
            raise DataError(f"{path}: frames of different numbers of atoms are no trajectory")
        known = np.array(times) if len(times) == frames else None
        return cls(path, max(sizes, default=0), frames, known, is_cut, 0 < moving == frames == len(times))

    def pieces(self) -> Iterator[Piece]:
        """Positions and cells, angstrom, in pieces of at most 1000 frames.

        Raises:
            DataError: A frame cannot be read.
        """
        for structures in self._pieces():
            periodic = all(atoms.pbc.any() for atoms in structures)
            cells = complete_cells(np.stack([atoms.cell.array for atoms in structures])) if periodic else None
            yield np.stack([atoms.positions for atoms in structures]).astype(np.float32), cells

    def velocities(self) -> Iterator[FloatArray]:
        """Velocities of the same pieces, angstrom/fs: the columns ``velocities`` of `piwsl md`.

        Raises:
            DataError: A frame cannot be read.
        """
        for structures in self._pieces():
            yield np.stack([atoms.arrays["velocities"] for atoms in structures])

    def _pieces(self) -> Iterator[list[Atoms]]:
        done = 0
        with self.path.open(encoding="utf-8") as stream:
            frames = islice(_frames(stream), self.frames)
            while chosen := list(islice(frames, PIECE)):
                structures = []
                for lines in chosen:
                    try:
                        structures.append(next(read_xyz(StringIO("".join(lines)), index=0)))
                    except _READ_ERRORS as error:
                        raise _not_extxyz(self.path, done + len(structures), error) from None
                yield structures
                done += len(structures)


def open_extxyz(path: Path) -> TrajectoryFile:
    """Count the frames of an extended XYZ file, and read their times.

    Raises:
        DataError: Not extended XYZ, or frames of different numbers of atoms.
    """
    file = ExtxyzFile.open(path)
    notes = cut_note(path, file.frames, int(file.is_cut))
    velocities = file.velocities if file.has_velocities else None
    return TrajectoryFile(file.atoms, file.frames, file.times, file.pieces, notes, velocities)


def states_times(path: Path) -> bool:
    """Whether the first frame states its time in fs, as those of `piwsl md` do."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        return _TIME.search("".join(islice(stream, 1, 2))) is not None


def first_species(path: Path) -> IntArray:
    """(atoms,) atomic numbers of the first frame.

    Raises:
        DataError: It cannot be read.
    """
    with path.open(encoding="utf-8") as stream:
        try:
            return np.asarray(next(read_xyz(stream, index=0)).numbers, dtype=np.int64)
        except _READ_ERRORS as error:
            raise _not_extxyz(path, 0, error) from None


def _frames(stream: TextIO) -> Iterator[list[str]]:
    """Yield the lines of each frame; a cut frame has fewer than it states."""
    while first := stream.readline():
        yield [first, *islice(stream, int(first) + 1)]


def _not_extxyz(path: Path, frames: int, error: BaseException) -> DataError:
    return DataError(f"{path}: frame {frames + 1} is not extended XYZ ({reason_of(error)})")


class ExtxyzWriter:
    """Writer of extended XYZ; columns ``velocities`` (angstrom/fs) and ``forces`` (eV/angstrom).

    Writing a frame of 21 atoms takes a fifth of the 0.2 ms that the writer of ASE takes.

    Args:
        path: File.
        structure: Structure whose atoms move.
        write: Requested columns: ``velocities``, ``forces``.
        keep: Frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: The existing file holds fewer frames, or the file cannot be written.
    """

    def __init__(self, path: Path, structure: Atoms, write: tuple[str, ...], keep: int = 0) -> None:
        columns, row = ["species:S:1", "pos:R:3"], "%16.8f" * 3
        for name, width in (("velocities", "%16.10f"), ("forces", "%16.8f")):
            if name in write:
                columns.append(f"{name}:R:3")
                row += width * 3
        self._structure = structure
        self._properties = ":".join(columns)
        self._rows = "".join(f"{symbol:<2}{row}\n" for symbol in structure.get_chemical_symbols())
        self._file = AppendFile(path, _bytes_to_keep(path, len(structure) + 2, keep) if keep else 0)

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        columns = [values for values in (frame.positions, frame.velocities, frame.forces) if values is not None]
        rows = self._rows % tuple(np.concatenate(columns, axis=1).ravel().tolist())
        self._file.add(f"{len(self._structure)}\n{self._comment(frame)}\n{rows}".encode())

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """End the file; once more does nothing."""
        self._file.close()

    def _comment(self, frame: OutputFrame) -> str:
        lattice = "" if frame.cell is None else f'Lattice="{_numbers(frame.cell)}" '
        periodic = " ".join("FT"[int(axis)] for axis in self._structure.pbc)
        return f'{lattice}Properties={self._properties} step={frame.step} time_fs={frame.time!r} pbc="{periodic}"'


def _numbers(values: FloatArray) -> str:
    return " ".join(f"{float(value):.10g}" for value in values.ravel())


def _bytes_to_keep(path: Path, lines: int, keep: int) -> int:
    frames = 0
    if path.is_file():
        with path.open("rb") as file:
            while frames < keep and all(file.readline().endswith(b"\n") for _ in range(lines)):
                frames += 1
            if frames == keep:
                return file.tell()
    raise too_few(path, frames, keep)
