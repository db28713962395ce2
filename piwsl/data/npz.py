"""Molecules in npz files: the key sets of rMD17 and of sGDML, and our own."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from piwsl.data.frames import Frame, FrameSet, check_label
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import LabelUnits, parse_units

# name of the layout -> keys of (species, positions, energies, forces)
LAYOUTS = {
    "rMD17": ("nuclear_charges", "coords", "energies", "forces"),
    "sGDML": ("z", "R", "E", "F"),
}


def read_npz(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames of one molecule from an npz file.

    Args:
        path: npz file. Never unpickled.
        units: units of its numbers; not needed where the file itself states them.

    Raises:
        DataError: no known keys, wrong shapes, or units stated nowhere.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (BadZipFile, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a readable npz file of plain arrays ({error})") from None
    for keys in LAYOUTS.values():
        if keys[0] in arrays and keys[1] in arrays:
            break
    else:
        known = " or ".join("/".join(keys) for keys in LAYOUTS.values())
        raise DataError(f"{path}: its keys are {', '.join(arrays)}; expected {known}")
    units = units or _own_units(path, arrays)
    return _frames(path, arrays, keys, units)


def _own_units(path: Path, arrays: dict[str, FloatArray]) -> LabelUnits:
    if "units" in arrays:
        return parse_units(str(arrays["units"]))
    raise DataError(f"{path}: states no units: name them, for instance --units 'kcal/mol, angstrom'")


def _frames(path: Path, arrays: dict[str, FloatArray], keys: tuple[str, ...], units: LabelUnits) -> FrameSet:
    species_key, positions_key, energy_key, forces_key = keys
    species = arrays[species_key]
    positions = arrays[positions_key]
    if species.ndim != 1 or positions.ndim != 3 or positions.shape[1:] != (len(species), 3):
        raise DataError(
            f"{path}: {species_key} has shape {species.shape} and {positions_key} {positions.shape}; "
            "expected (atoms,) and (frames, atoms, 3)"
        )
    count = len(positions)
    energies = _labels(path, arrays, energy_key, (count,), units.energy)
    forces = _labels(path, arrays, forces_key, positions.shape, units.force)
    numbers = species.astype(np.int64)
    positions = positions.astype(np.float64) * units.length
    frames = [Frame(numbers, positions[i], float(energies[i]), forces[i]) for i in range(count)]
    return FrameSet(frames, path)


def _labels(path: Path, arrays: dict[str, FloatArray], key: str, shape: tuple[int, ...], factor: float) -> FloatArray:
    if key not in arrays:
        return np.full(shape, np.nan)
    values = arrays[key].astype(np.float64)
    if key in ("E", "energies") and values.size == shape[0]:
        values = values.reshape(shape)
    if values.shape != shape:
        raise DataError(f"{path}: {key} has shape {values.shape}, expected {shape}")
    values = values * factor
    for index in range(shape[0]):
        check_label(path, index, key, values[index])
    return values
