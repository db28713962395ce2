"""What a run is compared with: a reference trajectory, or a set of frames without order."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, DataError, PiwslError
from piwsl.md.analysis.run_directory import formula_of
from piwsl.md.analysis.trajectory_files import Progress, read_topology, read_trajectory
from piwsl.typing import FloatArray, IntArray
from piwsl.units import LENGTH_UNITS, LabelUnits, parse_units

# Trajectories that hold positions only, and those that hold their topology, too.
BARE_TRAJECTORIES = (".dcd", ".xtc", ".trr", ".nc", ".netcdf", ".ncdf", ".mdcrd", ".binpos", ".lh5", ".dtr")
FULL_TRAJECTORIES = (".pdb", ".h5", ".hdf5", ".gro")


@dataclass(frozen=True, eq=False)
class Reference:
    """Structures that a run should be like.

    Attributes:
        name: for people.
        species: (atoms,) atomic numbers.
        positions: (frames, atoms, 3) angstrom.
        times: (frames,) fs, or None for frames without times.
        notes: what the reader has to say.
    """

    name: str
    species: IntArray
    positions: FloatArray
    times: FloatArray | None
    notes: tuple[str, ...] = ()


def read_reference(
    path: Path, topology: Path | None = None, units: str | None = None, progress: Progress | None = None
) -> Reference:
    """Read a reference: a trajectory (mdtraj), an npz with rMD17 or sGDML keys, or any file ASE reads.

    Args:
        path: the file.
        topology: for trajectories that hold positions only; a PDB file.
        units: of an npz or ASE file whose lengths are not in angstrom: ``nm``, or ``kcal/mol, bohr``.
        progress: called with (frames read, all frames).

    Raises:
        DataError: the file or its topology cannot be read, or its frames are not of one molecule.
        ConfigError: a unit is not known, or an option does not belong to this kind of file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind in BARE_TRAJECTORIES or kind in FULL_TRAJECTORIES:
        if units:
            raise ConfigError(f"{path.name}: {kind} trajectories have one unit: leave out --units")
        return _read_trajectory(path, topology, progress)
    if topology is not None:
        raise ConfigError(f"{path.name}: holds its own species: leave out --reference-topology")
    return _read_frames(path, units)


def bundled_reference(name: str, progress: Progress | None = None) -> Reference:
    """The reference trajectory of a bundled system.

    Args:
        name: such as ``aspirin``.
        progress: called with (frames read, all frames).

    Raises:
        ConfigError: there is no bundled system of this name.
    """
    from piwsl.data.systems import named_system

    try:
        system = named_system(name)
    except PiwslError as error:
        raise ConfigError(f"no reference for {name!r}: name one with --reference FILE ({error})") from None
    raw = read_trajectory(Path(system.reference_trajectory), progress=progress)
    times = float(system.reference_timestep) * np.arange(len(raw.positions))
    species = np.asarray(system.structure.numbers, dtype=np.int64)
    return Reference(f"bundled {system.name}", species, raw.positions, times, raw.notes)


def check_same_molecule(run: IntArray, reference: Reference) -> None:
    """Refuse to compare different molecules, or one molecule with its atoms in another order.

    Args:
        run: (atoms,) atomic numbers of the run.
        reference: to compare with.

    Raises:
        DataError: says what differs.
    """
    theirs = reference.species
    if len(run) == len(theirs) and (run == theirs).all():
        return
    if sorted(run) != sorted(theirs):
        raise DataError(
            f"run and reference are different molecules: {formula_of(run)} and {formula_of(theirs)} "
            f"({reference.name}): name another --reference"
        )
    first = int(np.flatnonzero(run != theirs)[0])
    raise DataError(
        f"run and reference ({reference.name}) have their atoms in different order: atom {first} is "
        f"{chemical_symbols[int(run[first])]} in the run, {chemical_symbols[int(theirs[first])]} in the reference: "
        "reorder one of them"
    )


def _read_trajectory(path: Path, topology: Path | None, progress: Progress | None) -> Reference:
    if topology is None and path.suffix.lower() in BARE_TRAJECTORIES:
        raise ConfigError(f"{path.name} holds positions only: name its topology with --reference-topology FILE.pdb")
    species = read_topology(topology or path)
    raw = read_trajectory(path, topology, progress)
    if raw.positions.shape[1] != len(species):
        raise DataError(f"{path}: has {raw.positions.shape[1]} atoms, its topology {topology} has {len(species)}")
    _check_finite(path, raw.positions)
    return Reference(path.name, species, raw.positions, raw.times, raw.notes)


def _read_frames(path: Path, units: str | None) -> Reference:
    frames = read_frames(path, _units(path, units))
    species = frames[0].species
    for index, frame in enumerate(frames):
        if not np.array_equal(frame.species, species):
            raise DataError(f"{path}: frame {index} is another molecule than frame 0: a reference holds one molecule")
    positions = np.stack([frame.positions for frame in frames])
    return Reference(path.name, species, positions, None)


def _units(path: Path, units: str | None) -> LabelUnits | None:
    """Only the length matters here: labels are not read into anything."""
    if units is not None:
        return LabelUnits(1.0, LENGTH_UNITS[units] if units in LENGTH_UNITS else parse_units(units).length)
    if path.suffix == ".npz" and is_zipfile(path):
        with np.load(path, allow_pickle=False) as archive:
            states_units = "units" in archive.files
        return None if states_units else LabelUnits(1.0, 1.0)
    return None


def _check_finite(path: Path, positions: FloatArray) -> None:
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))
    if len(bad):
        raise DataError(f"{path}: frame {int(bad[0])}: a position is not a finite number")
