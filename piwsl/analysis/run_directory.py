"""A run directory of `piwsl md`, read into arrays."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from piwsl.errors import DataError, RunDirectoryError
from piwsl.runs.summary import SUMMARY_FILE, MDSummary
from piwsl.structures.matching import formula_of
from piwsl.trajectories.files import open_trajectory, read_topology
from piwsl.trajectories.frame_source import FrameSource, Progress
from piwsl.trajectories.thermo import Thermo
from piwsl.typing import FloatArray, IntArray

THERMO_FILE = "thermo.csv"
TOPOLOGY_FILE = "topology.pdb"
TRAJECTORY_FILES = tuple(f"trajectory.{kind}" for kind in ("dcd", "xtc", "extxyz", "hdf5"))


@dataclass(frozen=True, eq=False)
class Run:
    """A molecular dynamics run.

    Attributes:
        path: Run directory.
        summary: Content of ``summary.json``.
        frames: Frames of the trajectory, with their times in fs since the start of the run.
        thermo: Energies and temperature, or None where the run wrote none.
    """

    path: Path
    summary: MDSummary
    frames: FrameSource
    thermo: Thermo | None

    @property
    def species(self) -> IntArray:
        """(atoms,) atomic numbers."""
        return self.frames.species

    @property
    def times(self) -> FloatArray:
        """(frames,) fs since the start of the run."""
        assert self.frames.times is not None  # a run directory states its intervals
        return self.frames.times

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the reader, such as a file that was cut."""
        return self.frames.notes

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.summary.system.name

    @property
    def formula(self) -> str:
        """Chemical formula, Hill order."""
        return formula_of(self.species)

    @property
    def ensemble(self) -> str:
        """Such as ``nve`` or ``nvt-langevin``."""
        return self.summary.ensemble.lower()

    @property
    def target_temperature(self) -> float | None:
        """Temperature of the thermostat, K; None for NVE and where it changes."""
        temperature = self.summary.temperature_K
        return None if self.ensemble == "nve" or isinstance(temperature, str) else temperature

    @property
    def requested_time(self) -> float:
        """Length that was requested, fs."""
        return self.summary.steps_requested * self.summary.timestep_fs

    @property
    def done_time(self) -> float:
        """Length that was computed, fs."""
        return self.summary.steps_done * self.summary.timestep_fs


def read_run(path: str | Path, progress: Progress | None = None) -> Run:
    """Read a run directory.

    Args:
        path: Directory that `piwsl md` wrote.
        progress: Called with (frames read, all frames) while the frames are read.

    Raises:
        RunDirectoryError: No such directory, or not one of `piwsl md`.
        DataError: The trajectory or the energies cannot be read.
    """
    path = Path(path)
    summary = MDSummary.read(path)
    trajectory = path / summary.outputs.get("trajectory", "")
    if not trajectory.is_file():
        present = [path / name for name in TRAJECTORY_FILES if (path / name).is_file()]
        if not present:
            raise RunDirectoryError(f"{path}: holds no {' or '.join(TRAJECTORY_FILES)}: nothing to analyze")
        trajectory = present[0]
    file = open_trajectory(trajectory)
    species = _species(path, summary)
    if file.atoms != len(species):
        raise DataError(
            f"{trajectory}: has {file.atoms} atoms, {SUMMARY_FILE} {len(species)}: the files are not of one run"
        )
    # The first frame is written after the first interval, not at the start.
    times = summary.trajectory_interval * summary.timestep_fs * np.arange(1, file.frames + 1)
    thermo, thermo_notes = Thermo.read(path / THERMO_FILE)
    frames = replace(file.source(species, times, thermo_notes, progress), own_masses=_masses(path, summary))
    return Run(path, summary, frames, thermo)


def replica_directories(path: Path) -> tuple[Path, ...]:
    """Return the run directories of a directory of replicas; the directory itself where it is one run.

    Raises:
        RunDirectoryError: Its summary names replicas that cannot be directories in it.
    """
    try:
        replicas = MDSummary.read(path).replicas
    except RunDirectoryError:
        return (path,)  # reading it as a run gives the reason
    if replicas is None:
        return (path,)
    names = [replica.directory for replica in replicas]
    is_plain = all(Path(name).name == name not in ("", "..") for name in names)
    if not names or not is_plain or len(set(names)) < len(names):
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: 'replicas' does not name different directories")
    return tuple(path / name for name in names)


def _masses(path: Path, summary: MDSummary) -> FloatArray | None:
    if summary.system.masses is None:
        return None
    masses = np.array(summary.system.masses, dtype=np.float64)
    if len(masses) != len(summary.system.species) or not ((masses > 0) & (masses < np.inf)).all():
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: 'masses' are not one positive number for each atom")
    return masses


def _species(path: Path, summary: MDSummary) -> IntArray:
    species = summary.system.species
    if not species:
        return read_topology(path / TOPOLOGY_FILE)
    try:
        numbers = [atomic_numbers[element] if isinstance(element, str) else element for element in species]
    except KeyError as error:
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: {error} is no element") from None
    return np.array(numbers, dtype=np.int64)
