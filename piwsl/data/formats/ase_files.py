"""Structures and labels in files that ASE reads, such as extended XYZ."""

import gzip
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from ase import Atoms
from ase.io import iread
from ase.io.extxyz import write_xyz
from ase.io.formats import UnknownFileTypeError, filetype

from piwsl.data.formats.labels import ENERGY_KEY, EV_ANGSTROM, FORCES_KEY, STRESS_KEY, find_labels, labeled_frame
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError, reason_of
from piwsl.units import LabelUnits


def read_ase(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames from a file in a format of ASE.

    Labels are ``REF_energy``, ``REF_forces`` and ``REF_stress`` or ``REF_virial``. For a frame without any of them, the
    labels are the results of a calculation in the file, and a note states this.

    Raises:
        DataError: the file cannot be read or contains no frame.
    """
    frames: list[Frame] = []
    from_results = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about headers of foreign files do not help the user
            for atoms in _structures(path):
                labels = find_labels({**atoms.arrays, **atoms.info}, {} if atoms.calc is None else atoms.calc.results)
                pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
                structure = (atoms.numbers, atoms.positions, atoms.cell.array, pbc)
                frames.append(labeled_frame(path, len(frames), *structure, labels, units or EV_ANGSTROM))
                from_results += labels.from_results
    except DataError:
        raise
    except (UnknownFileTypeError, OSError, ValueError, KeyError, IndexError, EOFError) as error:
        raise DataError(f"{path}: not readable after {len(frames)} frames ({reason_of(error)})") from None
    if not frames:
        raise DataError(f"{path}: contains no structure")
    notes: tuple[str, ...] = ()
    if from_results:
        notes = (
            f"{from_results} of {len(frames)} frames have no {ENERGY_KEY}/{FORCES_KEY}: "
            "read the plain energy/forces of the file",
        )
    return FrameSet(frames, path, notes, (path,))


def _structures(path: Path) -> Iterator[Atoms]:
    if path.suffix != ".gz":
        yield from iread(path, index=":", do_not_split_by_at_sign=True)
        return
    # ASE seeks back and forth, which is slow in a compressed file, so the file is unpacked into memory first.
    with gzip.open(path, "rt") as stream:
        text = io.StringIO(stream.read())
    yield from iread(text, index=":", format=filetype(path.with_suffix("").name, read=False))


def write_extxyz(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames as extended XYZ, with the labels ``REF_energy``, ``REF_forces`` and ``REF_stress``."""
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
