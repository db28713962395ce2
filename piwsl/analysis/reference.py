"""References for comparisons: a reference trajectory or an unordered set of frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np

from piwsl.analysis.quantity import Quantity
from piwsl.analysis.reference_statistics import ReferenceStatistics, collect_statistics, save_statistics
from piwsl.analysis.run_directory import read_run
from piwsl.data.formats.ase_files import check_dump
from piwsl.data.formats.npz import UNIT_KEYS
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, DataError, PiwslError, not_a_file
from piwsl.runs.untrusted import reading
from piwsl.trajectories.extxyz import first_species, states_times
from piwsl.trajectories.files import open_trajectory, read_topology
from piwsl.trajectories.frame_source import FrameSource, Progress, first_frame, unwrapped
from piwsl.typing import FloatArray, IntArray
from piwsl.units import LENGTH_UNITS, LabelUnits, parse_units

# Formats that contain only positions, and formats that also contain the topology.
BARE_TRAJECTORIES = (".dcd", ".xtc", ".trr", ".nc", ".netcdf", ".ncdf", ".mdcrd", ".binpos")
FULL_TRAJECTORIES = (".pdb", ".h5", ".hdf5", ".gro")


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference structures that runs are compared with.

    Attributes:
        name: Display name.
        frames: Source of the frames.
    """

    name: str
    frames: FrameSource

    @classmethod
    def of_frames(
        cls, name: str, species: IntArray, positions: FloatArray, times: FloatArray | None = None
    ) -> "Reference":
        """Create a reference from arrays in memory.

        Args:
            name: Display name.
            species: Atomic numbers (atoms,).
            positions: Positions (frames, atoms, 3), angstrom.
            times: Times (frames,), fs; None for frames without times.
        """
        return cls(name, FrameSource.of_array(species, positions, times))

    @property
    def species(self) -> IntArray:
        """Atomic numbers (atoms,)."""
        return self.frames.species

    @property
    def times(self) -> FloatArray | None:
        """Times (frames,), fs; None for frames without times."""
        return self.frames.times

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the reader, such as a note on a truncated file."""
        return self.frames.notes

    @cached_property
    def statistics(self) -> ReferenceStatistics:
        """Statistics that runs are compared with, computed on first access and cached.

        Raises:
            DataError: A position is not a finite number, there are no bonds, or the frames cannot be read.
        """
        return collect_statistics(self.name, self.frames)

    def measured(
        self, quantities: Sequence[Quantity[Any]] = (), weights: FloatArray | None = None
    ) -> ReferenceStatistics:
        """Return the statistics of the standard and custom quantities, cached if there are no custom quantities.

        Args:
            quantities: Custom quantities.
            weights: Masses (atoms,) used as weights for structural quantities, amu; by default the masses of the
                reference.

        Raises:
            DataError: The statistics cannot be computed, as in `statistics`.
            ConfigError: ``quantities`` contains an object of another type, or two quantities have the same key.
        """
        if not quantities and weights is None:
            return self.statistics
        return collect_statistics(self.name, self.frames, quantities, weights)

    def save_statistics(self, path: str | Path) -> None:
        """Save `statistics` to an npz file, which can replace the frames as a reference.

        Raises:
            DataError: The statistics cannot be computed, or the file cannot be written.
        """
        save_statistics(self.statistics, path)

    @cached_property
    def is_periodic(self) -> bool:
        """Whether the frames have cells."""
        return first_frame(self.frames)[1] is not None

    def in_vacuum(self) -> "Reference":
        """Return the reference without cells, as a molecule in vacuum that is whole in the first frame."""
        if not self.is_periodic:
            return self
        note = f"the cell of {self.name} is ignored, because the run has no cell"
        frames = unwrapped(self.frames).without_cells()
        return Reference(self.name, replace(frames, notes=(*frames.notes, note)))


def read_reference(
    path: Path, topology: Path | None = None, units: str | None = None, progress: Progress | None = None
) -> Reference:
    """Read a reference: a trajectory (mdtraj), an npz file with rMD17 or sGDML keys, any file ASE can read, or a run.

    Args:
        path: Reference file or run directory.
        topology: PDB file for trajectories that contain only positions.
        units: Units of an npz or ASE file with lengths that are not in angstrom, such as ``nm`` or ``kcal/mol, bohr``.
        progress: Function called with (frames read, total frames) while the frames are read.

    Raises:
        DataError: The file or its topology cannot be read, or its frames are different molecules.
        RunDirectoryError: The directory was not written by `piwsl md`.
        ConfigError: A unit is unknown, or an option does not apply to this kind of file.
    """
    if path.is_dir():
        if topology is not None or units is not None:
            raise ConfigError(f"{path}: a run directory contains its topology and units: leave out the options")
        return Reference(path.name, read_run(path, progress).frames)
    if not path.is_file():
        raise DataError(not_a_file(path))
    kind = path.suffix.lower()
    if kind in BARE_TRAJECTORIES or kind in FULL_TRAJECTORIES:
        if units:
            raise ConfigError(f"{path.name}: {kind} trajectories have fixed units: leave out the units")
        return _read_trajectory(path, topology, progress)
    if topology is not None:
        check_dump(path)
        raise ConfigError(f"{path.name}: contains the elements of its atoms: leave out the reference topology")
    return _read_frames(path, units, progress)


def bundled_reference(name: str, progress: Progress | None = None) -> Reference:
    """Return the reference trajectory of a bundled system.

    Args:
        name: Name of the system, such as ``aspirin``.
        progress: Function called with (frames read, total frames) while the frames are read.

    Raises:
        ConfigError: No bundled system has this name.
    """
    from piwsl.data.systems import named_system

    try:
        system = named_system(name)
    except PiwslError as error:
        raise ConfigError(f"no bundled reference for {name!r}: give reference=FILE ({error})") from None
    file = open_trajectory(Path(system.reference_trajectory))
    times = float(system.reference_timestep) * np.arange(file.frames)
    species = np.asarray(system.structure.numbers, dtype=np.int64)
    return Reference(f"bundled {system.name}", file.source(species, times, progress=progress))


def _read_trajectory(path: Path, topology: Path | None, progress: Progress | None) -> Reference:
    if topology is None and path.suffix.lower() in BARE_TRAJECTORIES:
        raise ConfigError(f"{path.name} contains only positions: give its topology, reference_topology=FILE.pdb")
    species = read_topology(topology or path)
    file = open_trajectory(path, topology)
    if file.atoms != len(species):
        raise DataError(f"{path}: has {file.atoms} atoms, but its topology {topology} has {len(species)}")
    return Reference(path.name, file.source(species, progress=progress))


def _read_frames(path: Path, units: str | None, progress: Progress | None) -> Reference:
    if path.suffix == ".extxyz" and units is None and states_times(path):
        file = open_trajectory(path)  # a trajectory of `piwsl md`, not an unordered set
        return Reference(path.name, file.source(first_species(path), progress=progress))
    return Reference(path.name, FrameSource.of_frames(read_frames(path, _units(path, units)), path, progress))


def _units(path: Path, units: str | None) -> LabelUnits | None:
    """Return the units of the file. Labels are not used, so that the length unit alone is enough."""
    if units is not None:
        return LabelUnits(1.0, LENGTH_UNITS[units]) if units in LENGTH_UNITS else parse_units(units)
    if path.suffix == ".npz" and is_zipfile(path):
        with reading(path), np.load(path, allow_pickle=False) as archive:
            states_units = not UNIT_KEYS.isdisjoint(archive.files)
        return None if states_units else LabelUnits(1.0, 1.0)
    return None
