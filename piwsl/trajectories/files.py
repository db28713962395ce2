"""Trajectory files as sources of frames: whole frames only, and it is said where a file was cut."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack
from typing import Protocol

import mdtraj
import numpy as np
from ase import Atoms

from piwsl.data.formats.hdf5 import open_hdf5
from piwsl.errors import DataError, reason_of
from piwsl.structures.cells import cell_vectors, complete_cells
from piwsl.trajectories.dcd import DcdFile
from piwsl.trajectories.extxyz import ExtxyzFile
from piwsl.trajectories.source import PIECE, FrameSource, Piece, Progress
from piwsl.trajectories.writer import TrajectoryWriter
from piwsl.trajectories.xtc import frame_ends
from piwsl.typing import FloatArray, IntArray
from piwsl.units import NANOMETER, PICOSECOND

# What the readers of mdtraj raise on files that are not what their name says.
_READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError, EOFError, AttributeError)


@dataclass(frozen=True, eq=False)
class TrajectoryFile:
    """A trajectory file that was looked through; its frames are read when they are asked for.

    Attributes:
        atoms, frames: their numbers.
        times: (frames,) fs, where the file states them.
        read: opens the file anew and gives its pieces.
        notes: sentences on what the reader met, such as a cut file.
        read_velocities: as ``read``, gives velocities (f, atoms, 3), angstrom/fs, where the file has them.
    """

    atoms: int
    frames: int
    times: FloatArray | None
    read: Callable[[], Iterator[Piece]]
    notes: tuple[str, ...] = ()
    read_velocities: Callable[[], Iterator[FloatArray]] | None = None

    def source(
        self,
        species: IntArray,
        times: FloatArray | None = None,
        notes: tuple[str, ...] = (),
        progress: Progress | None = None,
    ) -> FrameSource:
        """The file with the elements of its atoms (atoms,), and with these times instead of its own."""
        times = self.times if times is None else times
        return FrameSource(species, self.frames, times, self.read, self.notes + notes, progress, self.read_velocities)


@dataclass(frozen=True, eq=False)
class RawTrajectory:
    """What a trajectory file holds, in memory.

    Attributes:
        positions: (frames, atoms, 3) angstrom, float32.
        times: (frames,) fs, where the file states them.
        notes: sentences on what the reader met, such as a cut file.
    """

    positions: FloatArray
    times: FloatArray | None
    notes: tuple[str, ...] = ()


def open_trajectory(path: Path, topology: Path | None = None) -> TrajectoryFile:
    """Open a trajectory: DCD, XTC, extended XYZ, HDF5 of mdtraj's conventions, or any other format of mdtraj.

    Args:
        path: the trajectory.
        topology: needed by formats other than DCD and XTC that hold positions only.

    Raises:
        DataError: missing, not readable, or without one whole frame.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".dcd":
        found = _open_dcd(path)
    elif path.suffix == ".xtc":
        found = _open_xtc(path)
    elif path.suffix == ".extxyz":
        file = ExtxyzFile.open(path)
        notes = _cut_note(path, file.frames, file.is_cut)
        velocities = file.velocities if file.has_velocities else None
        found = TrajectoryFile(file.atoms, file.frames, file.times, file.pieces, notes, velocities)
    elif path.suffix in (".hdf5", ".h5"):
        found = _open_hdf5(path)
    else:
        found = _open_other(path, topology)
    if not found.frames:
        raise DataError(f"{path}: holds no whole frame: nothing can be analyzed")
    return found


def read_trajectory(path: Path, topology: Path | None = None, progress: Progress | None = None) -> RawTrajectory:
    """All frames of a small trajectory at once; arguments and errors are those of `open_trajectory`."""
    file = open_trajectory(path, topology)
    source = file.source(np.zeros(file.atoms, dtype=np.int64), progress=progress)
    return RawTrajectory(source.all(), file.times, file.notes)


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
        raise DataError(f"{path}: not a topology that mdtraj reads ({reason_of(error)}): use a PDB file") from None
    numbers = [0 if atom.element is None else int(atom.element.atomic_number) for atom in topology.atoms]
    if not numbers or min(numbers) < 1:
        raise DataError(f"{path}: holds no atoms, or atoms without an element: use a PDB file with its element column")
    return np.array(numbers, dtype=np.int64)


def _open_dcd(path: Path) -> TrajectoryFile:
    file = DcdFile.open(path)

    def read() -> Iterator[Piece]:
        for first, last in _pieces(file.frames):
            yield file.read(first, last), file.cells(first, last)

    return TrajectoryFile(file.atoms, file.frames, None, read, _cut_note(path, file.frames, file.spare))


def _open_xtc(path: Path) -> TrajectoryFile:
    atoms, spare, times = 0, 0, []
    with path.open("rb") as file:
        start = 0
        for end in frame_ends(file, path):
            file.seek(start)
            _, atoms, _, time = unpack(">iiif", file.read(16))
            times.append(time * PICOSECOND)
            start = end
        spare = file.seek(0, 2) - start
    frames = len(times)

    def read() -> Iterator[Piece]:
        try:
            with mdtraj.formats.XTCTrajectoryFile(str(path)) as stream:
                for first, last in _pieces(frames):
                    xyz, _, _, box = stream.read(last - first)
                    yield _angstrom(xyz), None if box is None or not np.ndim(box) else complete_cells(_angstrom(box))
        except _READ_ERRORS as error:
            raise DataError(f"{path}: damaged ({reason_of(error)})") from None

    return TrajectoryFile(atoms, frames, np.array(times), read, _cut_note(path, frames, spare))


def _open_hdf5(path: Path) -> TrajectoryFile:
    with open_hdf5(path, growing=True) as file:
        if "coordinates" not in file or "time" not in file:
            raise DataError(f"{path}: not HDF5 in the conventions of mdtraj: it has no coordinates or no time")
        frames, atoms = file["coordinates"].shape[:2]
        times = np.asarray(file["time"][:frames], dtype=np.float64) * PICOSECOND
        has_cells = "cell_lengths" in file and "cell_angles" in file
        has_velocities = "velocities" in file

    def read() -> Iterator[Piece]:
        with open_hdf5(path, growing=True) as file:
            for first, last in _pieces(frames):
                cells = None
                if has_cells:
                    lengths, angles = (
                        np.asarray(file[name][first:last], dtype=np.float64) for name in ("cell_lengths", "cell_angles")
                    )
                    cells = complete_cells(cell_vectors(lengths * NANOMETER, angles))
                yield _angstrom(file["coordinates"][first:last]), cells

    def read_velocities() -> Iterator[FloatArray]:
        with open_hdf5(path, growing=True) as file:
            for first, last in _pieces(frames):
                yield np.asarray(file["velocities"][first:last], dtype=np.float64) * (NANOMETER / PICOSECOND)

    return TrajectoryFile(atoms, frames, times, read, read_velocities=read_velocities if has_velocities else None)


def _open_other(path: Path, topology: Path | None) -> TrajectoryFile:
    options = {} if topology is None else {"top": str(topology)}

    def stream() -> Iterator[mdtraj.Trajectory]:
        try:
            yield from mdtraj.iterload(str(path), chunk=PIECE, **options)
        except _READ_ERRORS as error:
            hint = "" if topology else ": name its topology with --reference-topology"
            raise DataError(f"{path}: not a trajectory that mdtraj reads ({reason_of(error)}){hint}") from None

    def read() -> Iterator[Piece]:
        for piece in stream():
            cells = piece.unitcell_vectors
            yield _angstrom(piece.xyz), None if cells is None else complete_cells(_angstrom(cells))

    atoms, times = 0, [np.zeros(0)]
    for piece in stream():
        atoms = piece.n_atoms
        times.append(np.asarray(piece.time, dtype=np.float64) * PICOSECOND)
    joined = np.concatenate(times)
    return TrajectoryFile(atoms, len(joined), joined, read)


def _pieces(frames: int) -> Iterator[tuple[int, int]]:
    for first in range(0, frames, PIECE):
        yield first, min(first + PIECE, frames)


def _angstrom(values: FloatArray) -> FloatArray:
    return np.asarray(np.asarray(values, dtype=np.float32) * np.float32(NANOMETER))


def _cut_note(path: Path, frames: int, spare: int) -> tuple[str, ...]:
    if not spare:
        return ()
    return (f"{path.name} was cut within frame {frames + 1}: its {frames} whole frames are used",)


class TrajectoryOptions(Protocol):
    """Options of the trajectory that a run writes."""

    @property
    def trajectory_format(self) -> str:
        """``dcd``, ``xtc``, ``extxyz`` or ``hdf5``."""

    @property
    def trajectory_interval(self) -> int:
        """Steps between frames."""

    @property
    def timestep(self) -> float:
        """Time step in fs."""

    @property
    def write(self) -> tuple[str, ...]:
        """Arrays that are written beside positions: ``velocities``, ``forces``."""


def create_trajectory(path: Path, structure: Atoms, options: TrajectoryOptions, keep: int = 0) -> TrajectoryWriter:
    """Create a trajectory file, or continue one after its first ``keep`` frames.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
        MissingDependencyError: h5py is not installed, and the format is HDF5.
    """
    if options.trajectory_format == "xtc":
        from piwsl.trajectories.xtc import XtcWriter

        return XtcWriter(path, keep)
    if options.trajectory_format == "extxyz":
        from piwsl.trajectories.extxyz import ExtxyzWriter

        return ExtxyzWriter(path, structure, options.write, keep)
    if options.trajectory_format == "hdf5":
        from piwsl.trajectories.hdf5 import Hdf5Writer

        return Hdf5Writer(path, structure, options.write, keep)
    from piwsl.trajectories.dcd import DcdWriter

    interval, timestep = options.trajectory_interval, options.timestep
    return DcdWriter(path, len(structure), bool(structure.pbc.any()), interval, timestep, keep)
