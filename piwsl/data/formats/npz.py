"""Frames of one molecule in npz files, with the keys of rMD17 or sGDML."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from piwsl.data.frames import Frame, FrameSet, check_label
from piwsl.data.lazy import UnknownLayoutError
from piwsl.errors import DataError
from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray
from piwsl.units import LabelUnits, parse_units

# name of the layout -> keys of (species, positions, energies, forces)
LAYOUTS = {
    "rMD17": ("nuclear_charges", "coords", "energies", "forces"),
    "sGDML": ("z", "R", "E", "F"),
}


def read_npz(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames of one molecule from an npz file.

    Args:
        path: npz file; pickled objects in it are refused.
        units: units of the file, if it does not state them.

    Raises:
        UnknownLayoutError: the npz file has other keys.
        DataError: a shape is wrong, or the units are missing or contradict those of the file.
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
        raise UnknownLayoutError(f"{path}: its keys are {', '.join(arrays)}; expected {known}")
    units = _units(path, arrays, units)
    return _frames(path, arrays, keys, units)


def _units(path: Path, arrays: dict[str, FloatArray], named: LabelUnits | None) -> LabelUnits:
    stated = parse_units(str(arrays["units"])) if "units" in arrays else None
    if stated is None and named is None:
        raise DataError(f"{path}: states no units: give them, for instance units='kcal/mol, angstrom'")
    if stated is not None and named not in (None, stated):
        raise DataError(f"{path}: states its units itself, {arrays['units']}: leave units out")
    units = stated or named
    assert units is not None
    return units


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
    if numbers.min(initial=1) < 1 or numbers.max(initial=1) > MAX_ATOMIC_NUMBER:
        raise DataError(f"{path}: {species_key} contains an atomic number outside 1 to {MAX_ATOMIC_NUMBER}")
    positions = positions.astype(np.float64) * units.length
    infinite = np.flatnonzero(~np.isfinite(positions).all((1, 2)))
    if len(infinite):
        raise DataError(f"{path}: frame {infinite[0]}: a position is not a finite number")
    frames = [Frame(numbers, positions[i], float(energies[i]), forces[i]) for i in range(count)]
    return FrameSet(frames, path, files=(path,))


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


def write_npz(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames of one molecule with the keys of rMD17, and their units.

    Raises:
        DataError: the frames differ in their atoms, have cells, or only some have a label.
    """
    positions, energies, forces, species = [], [], [], None
    for index, frame in enumerate(frames):
        species = frame.species if species is None else species
        if not np.array_equal(frame.species, species) or frame.cell.any() or frame.has_stress:
            raise DataError(
                f"{path.suffix} can only contain frames of one molecule, and frame {index} has "
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
                f"{path.suffix} cannot represent missing labels, and {missing.sum()} of {len(missing)} frames have "
                f"no {name}: write .h5 or .extxyz instead"
            )
        if not missing.any():
            arrays[name] = labels
    np.savez_compressed(path, **arrays, units=np.array("eV, angstrom"))
