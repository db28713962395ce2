"""Positions from trajectory files, in pieces: whole frames only, and it is said where a file was cut."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

import mdtraj
import numpy as np
from ase.io.extxyz import read_xyz

from piwsl.data.hdf5_file import open_hdf5
from piwsl.errors import DataError
from piwsl.md.analysis.dcd import DcdFile
from piwsl.md.analysis.xtc import frame_ends
from piwsl.typing import FloatArray, IntArray
from piwsl.units import NANOMETER, PICOSECOND

PIECE = 1000  # frames read at a time
Progress = Callable[[int, int], None]  # called with (frames read, all frames)

# What the readers of mdtraj raise on files that are not what their name says.
_READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError, EOFError, AttributeError)


@dataclass(frozen=True, eq=False)
class RawTrajectory:
    """What a trajectory file holds.

    Attributes:
        positions: (frames, atoms, 3) angstrom, float32.
        times: (frames,) fs, where the file states them.
        notes: sentences on what the reader met, such as a cut file.
    """

    positions: FloatArray
    times: FloatArray | None
    notes: tuple[str, ...] = ()


def read_trajectory(path: Path, topology: Path | None = None, progress: Progress | None = None) -> RawTrajectory:
    """Read a trajectory: DCD, XTC, extended XYZ, HDF5 of mdtraj's conventions, or any other format of mdtraj.

    Args:
        path: the trajectory.
        topology: needed by formats other than DCD and XTC that hold positions only.
        progress: called while reading, where the number of frames is known beforehand.

    Raises:
        DataError: missing, not readable, or without one whole frame.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".dcd":
        raw = _read_dcd(path, progress)
    elif path.suffix == ".xtc":
        raw = _read_xtc(path, progress)
    elif path.suffix == ".extxyz":
        raw = _read_extxyz(path)
    elif path.suffix in (".hdf5", ".h5"):
        raw = _read_hdf5(path, progress)
    else:
        raw = _read_other(path, topology)
    if not len(raw.positions):
        raise DataError(f"{path}: holds no whole frame: nothing can be analysed")
    return raw


def read_topology(path: Path) -> IntArray:
    """Atomic numbers (atoms,) of a topology file that mdtraj reads, such as PDB.

    Raises:
        DataError: missing, not readable, or with an atom of no element.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        topology = mdtraj.load_topology(str(path))
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a topology that mdtraj reads ({_line(error)}): use a PDB file") from None
    numbers = [0 if atom.element is None else int(atom.element.atomic_number) for atom in topology.atoms]
    if not numbers or min(numbers) < 1:
        raise DataError(f"{path}: holds no atoms, or atoms without an element: use a PDB file with its element column")
    return np.array(numbers, dtype=np.int64)


def _read_dcd(path: Path, progress: Progress | None) -> RawTrajectory:
    file = DcdFile.open(path)
    pieces = []
    for first, last in _pieces(file.frames, progress):
        pieces.append(file.read(first, last))
    return RawTrajectory(_join(pieces, file.atoms), None, _cut_note(path, file.frames, file.spare))


def _read_xtc(path: Path, progress: Progress | None) -> RawTrajectory:
    positions, times = [], []
    with path.open("rb") as file:
        frames = end = 0
        for frames, end in enumerate(frame_ends(file, path), start=1):  # noqa: B007
            pass
        spare = file.seek(0, 2) - end
    if not frames:
        return RawTrajectory(_join([], 0), None)
    try:
        with mdtraj.formats.XTCTrajectoryFile(str(path)) as stream:
            for first, last in _pieces(frames, progress):
                xyz, time, _, _ = stream.read(last - first)
                positions.append(np.asarray(xyz, dtype=np.float32) * np.float32(NANOMETER))
                times.append(np.asarray(time, dtype=np.float64) * PICOSECOND)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: damaged ({_line(error)})") from None
    return RawTrajectory(_join(positions, 0), np.concatenate(times), _cut_note(path, frames, spare))


def _read_extxyz(path: Path) -> RawTrajectory:
    positions, times = [], []
    spare = False
    with path.open(encoding="utf-8") as stream:
        try:
            while first := stream.readline():
                lines = [first, *islice(stream, int(first) + 1)]
                spare = len(lines) < int(first) + 2 or not lines[-1].endswith("\n")
                if spare:
                    break
                atoms = next(read_xyz(StringIO("".join(lines)), index=0))
                positions.append(atoms.positions.astype(np.float32))
                times.append(atoms.info.get("time_fs"))
        except _READ_ERRORS as error:
            raise DataError(f"{path}: frame {len(positions) + 1} is not extended XYZ ({_line(error)})") from None
    if len({len(one) for one in positions}) > 1:
        raise DataError(f"{path}: frames of different numbers of atoms are no trajectory")
    known = None if None in times else np.array(times, dtype=np.float64)
    notes = _cut_note(path, len(positions), spare)
    return RawTrajectory(_join([one[None] for one in positions], 0), known, notes)


def _read_hdf5(path: Path, progress: Progress | None) -> RawTrajectory:
    with open_hdf5(path, growing=True) as file:
        if "coordinates" not in file or "time" not in file:
            raise DataError(f"{path}: not HDF5 in the conventions of mdtraj: it has no coordinates or no time")
        data, positions = file["coordinates"], []
        frames = len(data)
        for first, last in _pieces(frames, progress):
            positions.append(np.asarray(data[first:last], dtype=np.float32) * np.float32(NANOMETER))
        times = np.asarray(file["time"][:frames], dtype=np.float64) * PICOSECOND
    return RawTrajectory(_join(positions, 0), times)


def _read_other(path: Path, topology: Path | None) -> RawTrajectory:
    options = {} if topology is None else {"top": str(topology)}
    positions, times = [], []
    try:
        for piece in mdtraj.iterload(str(path), chunk=PIECE, **options):
            positions.append(np.asarray(piece.xyz, dtype=np.float32) * np.float32(NANOMETER))
            times.append(np.asarray(piece.time, dtype=np.float64) * PICOSECOND)
    except _READ_ERRORS as error:
        hint = "" if topology else ": name its topology with --reference-topology"
        raise DataError(f"{path}: not a trajectory that mdtraj reads ({_line(error)}){hint}") from None
    return RawTrajectory(_join(positions, 0), np.concatenate(times) if times else None)


def _pieces(frames: int, progress: Progress | None) -> Iterator[tuple[int, int]]:
    for first in range(0, frames, PIECE):
        last = min(first + PIECE, frames)
        yield first, last
        if progress:
            progress(last, frames)


def _join(pieces: list[FloatArray], atoms: int) -> FloatArray:
    return np.concatenate(pieces) if pieces else np.zeros((0, atoms, 3), dtype=np.float32)


def _cut_note(path: Path, frames: int, spare: int) -> tuple[str, ...]:
    if not spare:
        return ()
    return (f"{path.name} was cut within frame {frames + 1}: its {frames} whole frames are used",)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
