"""Extended XYZ trajectories: text files with positions, velocities and forces that ASE can read."""

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
from piwsl.trajectories.decoding import PIECE
from piwsl.trajectories.frame_source import MIXED_CELLS, Piece, TrajectoryFile, checked_cells, cut_note
from piwsl.trajectories.frame_writer import AppendFile, OutputFrame, too_few
from piwsl.typing import FloatArray, IntArray

_TIME = re.compile(r"\btime_fs=\"?([^\s\"]+)")
# Velocities are read only if frames state their time in fs; other programs use other units.
_VELOCITIES = re.compile(r"\bProperties=\S*:velocities:R:3")
_READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError, StopIteration)


@dataclass(frozen=True)
class ExtxyzFile:
    """An extended XYZ file with counted frames.

    Attributes:
        path: Path of the file.
        atoms, frames: Numbers of atoms and of complete frames.
        times: Times (frames,), fs; None unless every frame states ``time_fs``.
        is_cut: Whether the file ends within a frame.
        has_velocities: Whether every frame has the columns ``velocities`` that `piwsl md` writes, in angstrom/fs.
    """

    path: Path
    atoms: int
    frames: int
    times: FloatArray | None
    is_cut: bool
    has_velocities: bool = False

    @classmethod
    def open(cls, path: Path) -> "ExtxyzFile":
        """Count the frames of a file and collect their times.

        Raises:
            DataError: The file is not extended XYZ, or its frames have different numbers of atoms.
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
            raise DataError(f"{path}: not a trajectory: frames have different numbers of atoms")
        known = np.array(times) if len(times) == frames else None
        return cls(path, max(sizes, default=0), frames, known, is_cut, 0 < moving == frames == len(times))

    def pieces(self) -> Iterator[Piece]:
        """Yield positions and cells in angstrom, in pieces of at most 1000 frames.

        Raises:
            DataError: A frame cannot be read.
        """
        for structures in self._pieces():
            periodic = bool(structures[0].pbc.any())
            if any(bool(atoms.pbc.any()) != periodic for atoms in structures):
                raise DataError(f"{self.path}: {MIXED_CELLS}")
            cells = checked_cells(self.path, np.stack([atoms.cell.array for atoms in structures])) if periodic else None
            with np.errstate(over="ignore"):  # infinite, as such positions are in the other formats
                positions = np.stack([atoms.positions for atoms in structures]).astype(np.float32)
            yield positions, cells

    def velocities(self) -> Iterator[FloatArray]:
        """Yield the velocities (angstrom/fs) of the same pieces, from the columns that `piwsl md` writes.

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
    """Open an extended XYZ file, count its frames and read their times.

    Raises:
        DataError: The file is not extended XYZ, or its frames have different numbers of atoms.
    """
    file = ExtxyzFile.open(path)
    notes = cut_note(path, file.frames, int(file.is_cut))
    velocities = file.velocities if file.has_velocities else None
    return TrajectoryFile(file.atoms, file.frames, file.times, file.pieces, notes, velocities)


def states_times(path: Path) -> bool:
    """Return whether the first frame states its time in fs, as in files written by `piwsl md`."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        return _TIME.search("".join(islice(stream, 1, 2))) is not None


def first_species(path: Path) -> IntArray:
    """Return the atomic numbers (atoms,) of the first frame.

    Raises:
        DataError: The frame cannot be read.
    """
    with path.open(encoding="utf-8") as stream:
        try:
            return np.asarray(next(read_xyz(stream, index=0)).numbers, dtype=np.int64)
        except _READ_ERRORS as error:
            raise _not_extxyz(path, 0, error) from None


def _frames(stream: TextIO) -> Iterator[list[str]]:
    """Yield the lines of each frame; a truncated frame has fewer lines than its first line states."""
    while first := stream.readline():
        yield [first, *islice(stream, int(first) + 1)]


def _not_extxyz(path: Path, frames: int, error: BaseException) -> DataError:
    return DataError(f"{path}: frame {frames + 1} is not extended XYZ ({reason_of(error)})")


class ExtxyzWriter:
    """Write an extended XYZ file with optional columns ``velocities`` (angstrom/fs) and ``forces`` (eV/angstrom).

    A frame of 21 atoms takes a fifth of the 0.2 ms that ASE's writer takes.

    Args:
        path: Path of the file.
        structure: Structure whose atoms move.
        write: Names of the optional columns to write.
        keep: Number of frames of an existing file to keep; the file is truncated after them.

    Raises:
        RunDirectoryError: The existing file contains fewer frames, or the file cannot be written.
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
        """Append a frame."""
        columns = [values for values in (frame.positions, frame.velocities, frame.forces) if values is not None]
        rows = self._rows % tuple(np.concatenate(columns, axis=1).ravel().tolist())
        self._file.add(f"{len(self._structure)}\n{self._comment(frame)}\n{rows}".encode())

    def flush(self) -> None:
        """Write buffered frames to the file."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""
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
