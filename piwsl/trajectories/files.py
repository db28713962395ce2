"""Open and create trajectory files of any format. Only whole frames are read; a note states where a file was cut."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from piwsl.errors import DataError, reason_of
from piwsl.runs.reader_process import Arrays, read_apart
from piwsl.trajectories.dcd import DcdWriter, open_dcd
from piwsl.trajectories.decoding import mdtraj_frames
from piwsl.trajectories.extxyz import ExtxyzWriter, open_extxyz
from piwsl.trajectories.frame_source import READ_ERRORS, Piece, Progress, TrajectoryFile, checked_cells
from piwsl.trajectories.frame_writer import TrajectoryWriter
from piwsl.trajectories.hdf5 import Hdf5Writer, hdf5_species, open_hdf5_trajectory
from piwsl.trajectories.xtc import XtcWriter, open_xtc
from piwsl.typing import FloatArray, IntArray

OPENERS = {
    ".dcd": open_dcd,
    ".xtc": open_xtc,
    ".extxyz": open_extxyz,
    ".hdf5": open_hdf5_trajectory,
    ".h5": open_hdf5_trajectory,
}


# Formats without times, for which mdtraj invents a picosecond a frame.
WITHOUT_TIMES = (".pdb", ".mdcrd", ".crd", ".binpos")


@dataclass(frozen=True, eq=False)
class RawTrajectory:
    """The content of a trajectory file, in memory.

    Attributes:
        positions: (frames, atoms, 3) angstrom, float32.
        times: (frames,) fs, where the file states them.
        notes: Remarks of the reader, such as a file that was cut.
    """

    positions: FloatArray
    times: FloatArray | None
    notes: tuple[str, ...] = ()


def open_trajectory(path: Path, topology: Path | None = None) -> TrajectoryFile:
    """Open a trajectory: DCD, XTC, extended XYZ, HDF5 of mdtraj's conventions, or any other format of mdtraj.

    Args:
        path: The trajectory.
        topology: Needed by formats other than DCD and XTC that hold positions only.

    Raises:
        DataError: Missing, not readable, or without one whole frame.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    file = OPENERS[path.suffix](path) if path.suffix in OPENERS else _open_other(path, topology)
    if not file.frames:
        raise DataError(f"{path}: holds no whole frame: nothing can be analyzed")
    return replace(_with_checked_times(file, path), name=str(path))


def _with_checked_times(file: TrajectoryFile, path: Path) -> TrajectoryFile:
    """Return the file without times that do not increase, which are those of no trajectory, and with a note on them."""
    if file.times is None or (np.isfinite(file.times).all() and (np.diff(file.times) > 0).all()):
        return file
    note = f"the times in {path.name} do not increase: they are not used"
    return replace(file, times=None, notes=(*file.notes, note))


def read_trajectory(path: Path, topology: Path | None = None, progress: Progress | None = None) -> RawTrajectory:
    """Read all frames of a small trajectory at once; arguments and errors are those of `open_trajectory`."""
    file = open_trajectory(path, topology)
    source = file.source(np.zeros(file.atoms, dtype=np.int64), progress=progress)
    return RawTrajectory(source.all(), file.times, file.notes)


def read_topology(path: Path) -> IntArray:
    """Read the atomic numbers (atoms,) of a topology file that mdtraj reads, such as PDB, or of an HDF5 trajectory.

    Raises:
        DataError: Missing, not readable, or with an atom of no element.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if OPENERS.get(path.suffix) is open_hdf5_trajectory:
        return hdf5_species(path)
    import mdtraj

    try:
        topology = mdtraj.load_topology(str(path))
    except (*READ_ERRORS, ImportError) as error:
        raise DataError(f"{path}: not a topology that mdtraj reads ({reason_of(error)}): use a PDB file") from None
    numbers = [0 if atom.element is None else int(atom.element.atomic_number) for atom in topology.atoms]
    if not numbers or min(numbers) < 1:
        raise DataError(f"{path}: holds no atoms, or atoms without an element: use a PDB file with its element column")
    return np.array(numbers, dtype=np.int64)


def _open_other(path: Path, topology: Path | None) -> TrajectoryFile:
    def stream() -> Iterator[Arrays]:
        try:
            yield from read_apart(mdtraj_frames, path, None if topology is None else str(topology))
        except DataError as error:
            hint = "" if topology else ": name its topology with reference_topology=FILE"
            raise DataError(f"{path}: not a trajectory that mdtraj reads ({_inner(error, path)}){hint}") from None

    def read() -> Iterator[Piece]:
        for arrays in stream():
            cells = arrays.get("cells")
            yield arrays["positions"], None if cells is None else checked_cells(path, cells)

    atoms, frames, times = 0, 0, []
    for arrays in stream():
        frames, atoms = frames + len(arrays["positions"]), arrays["positions"].shape[1]
        times.append(arrays["times"])
    joined = np.concatenate(times) if times and path.suffix.lower() not in WITHOUT_TIMES else None
    return TrajectoryFile(atoms, frames, joined, read)


def _inner(error: DataError, path: Path) -> str:
    """Return the reason in a message of the reader."""
    return str(error).removeprefix(f"{path}: ").removeprefix("damaged (").removesuffix(")")


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
        """Arrays written beside positions: ``velocities``, ``forces``."""


def create_trajectory(path: Path, structure: Atoms, options: TrajectoryOptions, keep: int = 0) -> TrajectoryWriter:
    """Create a trajectory file, or continue one after its first ``keep`` frames.

    Raises:
        RunDirectoryError: The existing file holds fewer frames, or the file cannot be written.
        MissingDependencyError: H5py is not installed, and the format is HDF5.
    """
    if options.trajectory_format == "xtc":
        return XtcWriter(path, keep)
    if options.trajectory_format == "extxyz":
        return ExtxyzWriter(path, structure, options.write, keep)
    if options.trajectory_format == "hdf5":
        return Hdf5Writer(path, structure, options.write, keep)
    interval, timestep = options.trajectory_interval, options.timestep
    return DcdWriter(path, len(structure), bool(structure.pbc.any()), interval, timestep, keep)
