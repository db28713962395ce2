"""Open and create trajectory files of any format. Only complete frames are read; a note reports a truncated file."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from piwsl.errors import DataError, not_a_file, reason_of
from piwsl.runs.reader_process import Arrays, read_apart
from piwsl.trajectories.dcd import DcdWriter, open_dcd
from piwsl.trajectories.decoding import mdtraj_frames
from piwsl.trajectories.extxyz import ExtxyzWriter, open_extxyz
from piwsl.trajectories.frame_source import Piece, Progress, TrajectoryFile, checked_cells
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


# Formats without times, for which mdtraj assumes one picosecond per frame.
WITHOUT_TIMES = (".pdb", ".mdcrd", ".crd", ".binpos")


@dataclass(frozen=True, eq=False)
class RawTrajectory:
    """Contents of a trajectory file in memory.

    Attributes:
        positions: Positions (frames, atoms, 3), angstrom, float32.
        times: Times (frames,), fs; None if the file contains no times.
        notes: Remarks of the reader, such as a note on a truncated file.
    """

    positions: FloatArray
    times: FloatArray | None
    notes: tuple[str, ...] = ()


def open_trajectory(path: Path, topology: Path | None = None) -> TrajectoryFile:
    """Open a trajectory: DCD, XTC, extended XYZ, HDF5 in mdtraj's layout, or any other format that mdtraj reads.

    Args:
        path: Trajectory file.
        topology: Topology file, required for formats other than DCD and XTC that contain only positions.

    Raises:
        DataError: The file is missing, cannot be read, or contains no complete frame.
    """
    if not path.is_file():
        raise DataError(not_a_file(path))
    file = OPENERS[path.suffix](path) if path.suffix in OPENERS else _open_other(path, topology)
    if not file.frames:
        raise DataError(f"{path}: contains no complete frame: nothing can be analyzed")
    return replace(_with_checked_times(file, path), name=str(path))


def _with_checked_times(file: TrajectoryFile, path: Path) -> TrajectoryFile:
    """Discard times that do not increase, because they are not those of a trajectory, and add a note."""
    if file.times is None or (np.isfinite(file.times).all() and (np.diff(file.times) > 0).all()):
        return file
    note = f"the times in {path.name} do not increase and are ignored"
    return replace(file, times=None, notes=(*file.notes, note))


def read_trajectory(path: Path, topology: Path | None = None, progress: Progress | None = None) -> RawTrajectory:
    """Read all frames of a small trajectory into memory. Arguments and errors are the same as for `open_trajectory`."""
    file = open_trajectory(path, topology)
    source = file.source(np.zeros(file.atoms, dtype=np.int64), progress=progress)
    return RawTrajectory(source.all(), file.times, file.notes)


def read_topology(path: Path) -> IntArray:
    """Read the atomic numbers (atoms,) from a topology file that mdtraj reads, such as PDB, or from an HDF5 trajectory.

    Raises:
        DataError: The file is missing, cannot be read, or contains an atom without an element.
    """
    if not path.is_file():
        raise DataError(not_a_file(path))
    if OPENERS.get(path.suffix) is open_hdf5_trajectory:
        return hdf5_species(path)
    import mdtraj

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of cells, charges and residues, which are not used
            topology = mdtraj.load_topology(str(path))
    except Exception as error:  # readers raise many types for invalid content
        raise DataError(f"{path}: not a topology that mdtraj can read ({reason_of(error)}): use a PDB file") from None
    numbers = [0 if atom.element is None else int(atom.element.atomic_number) for atom in topology.atoms]
    if not numbers or min(numbers) < 1:
        raise DataError(f"{path}: contains no atoms, or atoms without an element: use a PDB file with element symbols")
    return np.array(numbers, dtype=np.int64)


def _open_other(path: Path, topology: Path | None) -> TrajectoryFile:
    def stream() -> Iterator[Arrays]:
        try:
            yield from read_apart(mdtraj_frames, path, None if topology is None else str(topology))
        except DataError as error:
            hint = "" if topology else ": give its topology, reference_topology=FILE"
            raise DataError(f"{path}: not a trajectory that mdtraj can read ({_inner(error, path)}){hint}") from None

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
    """Return the reason from a message of the reader, without the path."""
    return str(error).removeprefix(f"{path}: ").removeprefix("damaged (").removesuffix(")")


class TrajectoryOptions(Protocol):
    """Options for the trajectory that a run writes."""

    @property
    def trajectory_format(self) -> str:
        """Format name: ``dcd``, ``xtc``, ``extxyz`` or ``hdf5``."""

    @property
    def trajectory_interval(self) -> int:
        """Number of steps between frames."""

    @property
    def timestep(self) -> float:
        """Time step, fs."""

    @property
    def write(self) -> tuple[str, ...]:
        """Names of arrays written in addition to positions: ``velocities``, ``forces``."""


def create_trajectory(path: Path, structure: Atoms, options: TrajectoryOptions, keep: int = 0) -> TrajectoryWriter:
    """Create a trajectory file, or continue an existing file after its first ``keep`` frames.

    Raises:
        RunDirectoryError: The existing file contains fewer frames, or the file cannot be written.
        MissingDependencyError: The format is HDF5, and the package h5py is not installed.
    """
    if options.trajectory_format == "xtc":
        return XtcWriter(path, keep)
    if options.trajectory_format == "extxyz":
        return ExtxyzWriter(path, structure, options.write, keep)
    if options.trajectory_format == "hdf5":
        return Hdf5Writer(path, structure, options.write, keep)
    interval, timestep = options.trajectory_interval, options.timestep
    return DcdWriter(path, len(structure), bool(structure.pbc.any()), interval, timestep, keep)
