"""A run directory of `piwsl md`, read into arrays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from piwsl.errors import DataError, RunDirectoryError
from piwsl.structures.matching import formula_of
from piwsl.trajectories.files import open_trajectory, read_topology
from piwsl.trajectories.source import FrameSource, Progress
from piwsl.trajectories.thermo import Thermo
from piwsl.typing import FloatArray, IntArray

SUMMARY_FILE = "summary.json"
THERMO_FILE = "thermo.csv"
TOPOLOGY_FILE = "topology.pdb"
TRAJECTORY_FILES = tuple(f"trajectory.{kind}" for kind in ("dcd", "xtc", "extxyz", "hdf5"))


@dataclass(frozen=True, eq=False)
class Run:
    """A molecular dynamics run.

    Attributes:
        path: run directory.
        summary: content of summary.json.
        frames: of the trajectory, with their times in fs since the start of the run.
        thermo: energies and temperature, or None where the run wrote none.
    """

    path: Path
    summary: dict[str, Any]
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
        """What the reader has to say."""
        return self.frames.notes

    @property
    def name(self) -> str:
        """Of the system."""
        return str(self.summary["system"]["name"])

    @property
    def formula(self) -> str:
        """Chemical formula, Hill order."""
        return formula_of(self.species)

    @property
    def ensemble(self) -> str:
        """Such as ``nve`` or ``nvt-langevin``."""
        return str(self.summary["ensemble"]).lower()

    @property
    def target_temperature(self) -> float | None:
        """Of the thermostat, K; None for NVE, where it is that of the first velocities only, and where it changes."""
        said = self.summary["temperature_K"]
        return None if self.ensemble == "nve" or isinstance(said, str) else float(said)

    @property
    def requested_time(self) -> float:
        """Length asked for, fs."""
        return float(self.summary["steps_requested"]) * float(self.summary["timestep_fs"])

    @property
    def done_time(self) -> float:
        """Length computed, fs."""
        return float(self.summary["steps_done"]) * float(self.summary["timestep_fs"])


def read_run(path: Path, progress: Progress | None = None) -> Run:
    """Read a run directory.

    Args:
        path: as `piwsl md` wrote it.
        progress: called with (frames read, all frames) while the frames are gone through.

    Raises:
        RunDirectoryError: no such directory, or not one of `piwsl md`.
        DataError: the trajectory or the energies cannot be read.
    """
    summary = _read_summary(path)
    outputs = summary.get("outputs") or {}
    trajectory = path / str(outputs.get("trajectory", ""))
    if not trajectory.is_file():
        found = [path / name for name in TRAJECTORY_FILES if (path / name).is_file()]
        if not found:
            raise RunDirectoryError(f"{path}: holds no {' or '.join(TRAJECTORY_FILES)}: nothing to analyze")
        trajectory = found[0]
    file = open_trajectory(trajectory)
    species = _species(path, summary)
    if file.atoms != len(species):
        raise DataError(
            f"{trajectory}: has {file.atoms} atoms, {SUMMARY_FILE} says {len(species)}: the files are not of one run"
        )
    interval = float(summary["trajectory_interval"]) * float(summary["timestep_fs"])
    # The first frame is written after the first interval, not at the start.
    times = interval * np.arange(1, file.frames + 1)
    thermo, thermo_notes = Thermo.read(path / THERMO_FILE)
    return Run(path, summary, file.source(species, times, thermo_notes, progress), thermo)


def _read_summary(path: Path) -> dict[str, Any]:
    file = path / SUMMARY_FILE
    if not path.is_dir():
        raise RunDirectoryError(f"{path}: no such run directory")
    if not file.is_file():
        raise RunDirectoryError(f"{path}: not a finished run of `piwsl md`: it holds no {SUMMARY_FILE}")
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise RunDirectoryError(f"{file}: damaged: not JSON") from None
    needed = ("system", "ensemble", "temperature_K", "timestep_fs", "trajectory_interval", "steps_requested")
    missing = [key for key in (*needed, "steps_done", "result") if key not in summary] if summary else needed
    if not isinstance(summary, dict) or missing:
        raise RunDirectoryError(f"{file}: not of a run of `piwsl md`: it lacks {', '.join(missing)}")
    return summary


def _species(path: Path, summary: dict[str, Any]) -> IntArray:
    species = summary["system"].get("species")
    if not species:
        return read_topology(path / TOPOLOGY_FILE)
    try:
        numbers = [atomic_numbers[one] if isinstance(one, str) else int(one) for one in species]
    except KeyError as error:
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: {error} is no element") from None
    return np.array(numbers, dtype=np.int64)
