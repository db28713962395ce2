"""Writing frames in another format, one after another."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ase.db.sqlite import SQLite3Database
from ase.io.extxyz import write_xyz

from piwsl.data.formats.labels import ENERGY_KEY, FORCES_KEY, STRESS_KEY, results_of
from piwsl.data.formats.lmdb import write_lmdb
from piwsl.data.formats.packed import write_packed
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError
from piwsl.runs.files import atomic_path

Writer: TypeAlias = Callable[[Path, Iterable[Frame]], None]
_REPORTED = 1000  # frames between two calls of progress


def convert(
    frames: FrameSet, output: Path, force: bool = False, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write frames to a file whose ending names the format; no more than a block of frames is held at a time.

    ``.h5`` and ``.hdf5`` are the packed format, ``.xyz`` and ``.extxyz`` extended XYZ with ``REF_energy``,
    ``REF_forces`` and ``REF_stress``, ``.npz`` frames of one molecule, ``.db`` and ``.aselmdb`` ASE databases.

    Args:
        frames: what to write.
        output: the file; appears when it is complete.
        force: replace a file that is there.
        progress: called with (frames written, all frames).

    Returns:
        Numbers of frames, energies, forces and stresses written.

    Raises:
        DataError: the ending is not known, the file exists, or the format cannot hold the frames.
        MissingDependencyError: the format needs a library that is not installed.
    """
    writer = check_output(output, force)
    counts = dict.fromkeys(("frames", "energies", "forces", "stresses"), 0)
    with atomic_path(output) as temporary:
        writer(temporary, _counted(frames, counts, progress))
    return counts


def check_output(output: Path, force: bool = False) -> Writer:
    """What writes such a file.

    Raises:
        DataError: the ending is not known, or the file exists and ``force`` is not set.
    """
    writer = WRITERS.get(output.suffix.lower())
    if writer is None:
        raise DataError(f"{output}: no format to write has this ending; known are {', '.join(WRITERS)}")
    if output.is_dir() or (output.exists() and not force):
        raise DataError(f"{output} exists: choose another name, or replace it with --force")
    return writer


def _counted(frames: FrameSet, counts: dict[str, int], progress: Callable[[int, int], None] | None) -> Iterator[Frame]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        counts["frames"] = done
        counts["energies"] += frame.has_energy
        counts["forces"] += frame.has_forces
        counts["stresses"] += frame.has_stress
        if progress and (done % _REPORTED == 0 or done == len(frames)):
            progress(done, len(frames))


def _write_extxyz(path: Path, frames: Iterable[Frame]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for frame in frames:
            atoms = frame.atoms()
            if frame.has_energy:
                atoms.info[ENERGY_KEY] = frame.energy
            if frame.has_forces:
                atoms.arrays[FORCES_KEY] = frame.forces
            if frame.has_stress:
                atoms.info[STRESS_KEY] = frame.stress.reshape(-1)
            write_xyz(stream, [atoms], write_results=False)


def _write_npz(path: Path, frames: Iterable[Frame]) -> None:
    """The keys of rMD17, with units."""
    positions, energies, forces, species = [], [], [], None
    for index, frame in enumerate(frames):
        species = frame.species if species is None else species
        if not np.array_equal(frame.species, species) or frame.cell.any() or frame.has_stress:
            raise DataError(
                f"{path.suffix} holds frames of one molecule, and frame {index} has "
                f"{'a cell' if frame.cell.any() or frame.has_stress else 'other atoms'}: write .h5 or .extxyz instead"
            )
        positions.append(frame.positions)
        energies.append(frame.energy)
        forces.append(frame.forces)
    arrays: dict[str, Any] = {"nuclear_charges": species, "coords": np.array(positions)}
    for name, labels in (("energies", np.array(energies)), ("forces", np.array(forces))):
        missing = np.isnan(labels).reshape(len(labels), -1).any(1)
        if missing.any() and not missing.all():
            raise DataError(
                f"{path.suffix} cannot say that a label is missing, and {missing.sum()} of {len(missing)} frames have "
                f"no {name}: write .h5 or .extxyz instead"
            )
        if not missing.any():
            arrays[name] = labels
    np.savez_compressed(path, **arrays, units=np.array("eV, angstrom"))


def _write_sqlite(path: Path, frames: Iterable[Frame]) -> None:
    with SQLite3Database(str(path), use_lock_file=False, serial=True) as database:
        for frame in frames:
            database.write(results_of(frame))


WRITERS: dict[str, Writer] = {
    ".h5": write_packed,
    ".hdf5": write_packed,
    ".extxyz": _write_extxyz,
    ".xyz": _write_extxyz,
    ".npz": _write_npz,
    ".db": _write_sqlite,
    ".aselmdb": write_lmdb,
}
