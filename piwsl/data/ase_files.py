"""Structures and labels in files that ASE reads, extended XYZ first of all."""

import gzip
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype

from piwsl.data.frames import Frame, FrameSet, check_label
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import LabelUnits

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"


def read_ase(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames from a file that ASE knows.

    Labels are ``REF_energy`` and ``REF_forces``; where these are absent, the energy and forces that ASE keeps
    as results of a calculation, which a note says.

    Raises:
        DataError: the file cannot be read or holds no frame.
    """
    units = units or LabelUnits(1.0, 1.0)
    frames: list[Frame] = []
    from_calculator = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the header of foreign files is not ours to warn about
            for atoms in _structures(path):
                frame, was_result = _frame(path, len(frames), atoms, units)
                frames.append(frame)
                from_calculator += was_result
    except DataError:
        raise
    except (UnknownFileTypeError, OSError, ValueError, KeyError, IndexError, EOFError) as error:
        raise DataError(f"{path}: not readable after {len(frames)} frames ({error or type(error).__name__})") from None
    if not frames:
        raise DataError(f"{path}: holds no structure")
    notes: tuple[str, ...] = ()
    if from_calculator:
        notes = (
            f"{from_calculator} of {len(frames)} frames have no {ENERGY_KEY}/{FORCES_KEY}: "
            "read the plain energy/forces of the file",
        )
    return FrameSet(frames, path, notes)


def _structures(path: Path) -> Iterator[Atoms]:
    if path.suffix != ".gz":
        yield from iread(path, index=":")
        return
    # ASE seeks back and forth, which is slow inside a compressed file: unpack it into memory first.
    with gzip.open(path, "rt") as stream:
        text = io.StringIO(stream.read())
    yield from iread(text, index=":", format=filetype(path.with_suffix("").name, read=False))


def _frame(path: Path, index: int, atoms: Atoms, units: LabelUnits) -> tuple[Frame, bool]:
    energy, forces = atoms.info.get(ENERGY_KEY), atoms.arrays.get(FORCES_KEY)
    was_result = False
    if energy is None and forces is None and atoms.calc is not None:
        results = atoms.calc.results
        energy, forces = results.get("energy"), results.get("forces")
        was_result = energy is not None or forces is not None
    try:
        scaled_energy = np.nan if energy is None else float(energy) * units.energy
        scaled_forces: FloatArray | None = None if forces is None else np.asarray(forces, dtype=float) * units.force
    except (TypeError, ValueError):
        raise DataError(f"{path}: frame {index}: its energy or forces are no numbers") from None
    if scaled_forces is not None and scaled_forces.shape != (len(atoms), 3):
        raise DataError(f"{path}: frame {index}: forces have shape {scaled_forces.shape}, atoms {len(atoms)}")
    if energy is not None:
        check_label(path, index, "energy", scaled_energy)
    if scaled_forces is not None:
        check_label(path, index, "forces", scaled_forces)
    atoms.set_cell(atoms.cell * units.length)
    atoms.positions = atoms.positions * units.length
    return Frame.from_atoms(atoms, scaled_energy, scaled_forces), was_result
