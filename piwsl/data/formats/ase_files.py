"""Structures and labels in files that ASE reads, extended XYZ first of all."""

import gzip
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype

from piwsl.data.formats.labels import ENERGY_KEY, EV_ANGSTROM, FORCES_KEY, find_labels, labeled_frame
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError, reason_of
from piwsl.units import LabelUnits


def read_ase(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames from a file that ASE knows.

    Labels are ``REF_energy``, ``REF_forces`` and ``REF_stress`` or ``REF_virial``; where a frame has none of them, the
    energy, forces and stress that ASE keeps as results of a calculation, which a note says.

    Raises:
        DataError: the file cannot be read or holds no frame.
    """
    frames: list[Frame] = []
    from_results = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the header of foreign files is not ours to warn about
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
        raise DataError(f"{path}: holds no structure")
    notes: tuple[str, ...] = ()
    if from_results:
        notes = (
            f"{from_results} of {len(frames)} frames have no {ENERGY_KEY}/{FORCES_KEY}: "
            "read the plain energy/forces of the file",
        )
    return FrameSet(frames, path, notes, (path,))


def _structures(path: Path) -> Iterator[Atoms]:
    if path.suffix != ".gz":
        yield from iread(path, index=":")
        return
    # ASE seeks back and forth, which is slow inside a compressed file: unpack it into memory first.
    with gzip.open(path, "rt") as stream:
        text = io.StringIO(stream.read())
    yield from iread(text, index=":", format=filetype(path.with_suffix("").name, read=False))
