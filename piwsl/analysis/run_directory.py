"""Reader of run directories written by `piwsl md`."""

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
        summary: Contents of ``summary.json``.
        frames: Frames of the trajectory, with times in fs since the start of the run.
        thermo: Energies and temperature; None if the run has none.
    """

    path: Path
    summary: MDSummary
    frames: FrameSource
    thermo: Thermo | None

    @property
    def species(self) -> IntArray:
        """Atomic numbers (atoms,)."""
        return self.frames.species

    @property
    def times(self) -> FloatArray:
        """Times (frames,) since the start of the run, fs."""
        assert self.frames.times is not None  # set for every run directory
        return self.frames.times

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the reader, such as a note on a truncated file."""
        return self.frames.notes

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.summary.system.name

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order."""
        return formula_of(self.species)

    @property
    def ensemble(self) -> str:
        """Name of the ensemble, such as ``nve`` or ``nvt-langevin``."""
        return self.summary.ensemble.lower()

    @property
    def target_temperature(self) -> float | None:
        """Temperature of the thermostat, K; None for NVE and for a varying temperature."""
        temperature = self.summary.temperature_K
        return None if self.ensemble == "nve" or isinstance(temperature, str) else temperature

    @property
    def requested_time(self) -> float:
        """Requested length of the run, fs."""
        return self.summary.steps_requested * self.summary.timestep_fs

    @property
    def done_time(self) -> float:
        """Simulated length of the run, fs."""
        return self.summary.steps_done * self.summary.timestep_fs


def read_run(path: str | Path, progress: Progress | None = None) -> Run:
    """Read a run directory.

    Args:
        path: Directory that `piwsl md` wrote.
        progress: Function called with (frames read, total frames) while the frames are read.

    Raises:
        RunDirectoryError: The directory does not exist, or was not written by `piwsl md`.
        DataError: The trajectory or the energies cannot be read.
    """
    path = Path(path)
    summary = MDSummary.read(path)
    trajectory = path / summary.outputs.get("trajectory", "")
    if not trajectory.is_file():
        present = [path / name for name in TRAJECTORY_FILES if (path / name).is_file()]
        if not present:
            raise RunDirectoryError(f"{path}: contains no {' or '.join(TRAJECTORY_FILES)}: nothing to analyze")
        trajectory = present[0]
    file = open_trajectory(trajectory)
    species = _species(path, summary)
    if file.atoms != len(species):
        raise DataError(
            f"{trajectory} has {file.atoms} atoms, but {SUMMARY_FILE} has {len(species)}: they belong to different runs"
        )
    # The first frame is written after the first interval, not at the start.
    times = summary.trajectory_interval * summary.timestep_fs * np.arange(1, file.frames + 1)
    thermo, thermo_notes = Thermo.read(path / THERMO_FILE)
    frames = replace(file.source(species, times, thermo_notes, progress), own_masses=_masses(path, summary))
    return Run(path, summary, frames, thermo)


def replica_directories(path: Path) -> tuple[Path, ...]:
    """Return the run directories in a directory of replicas, or the directory itself if it is a single run.

    Raises:
        RunDirectoryError: The summary contains invalid names of replica directories.
    """
    try:
        replicas = MDSummary.read(path).replicas
    except RunDirectoryError:
        return (path,)  # reading it as a run raises the appropriate error
    if replicas is None:
        return (path,)
    names = [replica.directory for replica in replicas]
    is_plain = all(Path(name).name == name not in ("", "..") for name in names)
    if not names or not is_plain or len(set(names)) < len(names):
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: 'replicas' must be a list of different directory names")
    return tuple(path / name for name in names)


def _masses(path: Path, summary: MDSummary) -> FloatArray | None:
    if summary.system.masses is None:
        return None
    masses = np.array(summary.system.masses, dtype=np.float64)
    if len(masses) != len(summary.system.species) or not ((masses > 0) & (masses < np.inf)).all():
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: 'masses' must be one positive number per atom")
    return masses


def _species(path: Path, summary: MDSummary) -> IntArray:
    species = summary.system.species
    if not species:
        return read_topology(path / TOPOLOGY_FILE)
    try:
        numbers = [atomic_numbers[element] if isinstance(element, str) else element for element in species]
    except KeyError as error:
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: {error} is not an element") from None
    return np.array(numbers, dtype=np.int64)
