"""Read and write frames of one molecule in npz files with the keys of rMD17 or sGDML."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from piwsl.data.charges import CHARGE, NAMES, NO_CHARGE, UNPAIRED, ChargeSpin, stated_charge
from piwsl.data.formats.labels import TEXTS, atomic_numbers_of, check_frame, checked_spread, shown_text
from piwsl.data.formats.stated_units import check_stated_units, text_of
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import UnknownLayoutError
from piwsl.data.names import CELL, STRUCTURE, FoundNames, NameCount, label_of, shown
from piwsl.errors import ConfigError, DataError, quoted
from piwsl.runs.untrusted import TooLargeError, check_archive, check_count, reading
from piwsl.typing import FloatArray
from piwsl.units import LabelUnits, energy_unit, length_unit, parse_units

# name of the layout -> keys of (species, positions, energies, forces)
LAYOUTS = {
    "rMD17": ("nuclear_charges", "coords", "energies", "forces"),
    "sGDML": ("z", "R", "E", "F"),
}
UNIT_KEYS = {"units", "e_unit"}  # either states the units of the labels
SPREADS = ("energy_spread", "force_spread")  # standard deviations (frames,) and (frames, atoms) over an ensemble


def read_npz(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames of one molecule from an npz file.

    Args:
        path: File in the npz format. Files with pickled objects are rejected.
        units: Units of the file, if the file does not state them.

    Raises:
        UnknownLayoutError: The npz file has other keys.
        DataError: A shape is wrong, or the units are missing or contradict the file.
    """
    with reading(path, "cannot be read as an npz file of numerical arrays"), path.open("rb") as stream:
        arrays = load_arrays(stream, path.stat().st_size)
    for keys in LAYOUTS.values():
        if keys[0] in arrays and keys[1] in arrays:
            break
    else:
        known = " or ".join("/".join(keys) for keys in LAYOUTS.values())
        names = ", ".join(shown(name) for name in list(arrays)[:20])
        raise UnknownLayoutError(f"{path}: its keys are {names or '(none)'}; expected {known}")
    with reading(path):
        _check_shapes(path, arrays[keys[0]].shape, arrays[keys[1]].shape, keys)
        units = _units(path, arrays, units)
        _check_no_cell(path, arrays)
        texts = {key: text for key, array in arrays.items() if (text := text_of(array)) is not None}
        agreeing = check_stated_units(path, None, texts, units)
        stated = _charges(path, arrays, keys)
        frames = _frames(path, arrays, keys, units, stated)
    read = {key for key in keys[2:] if key in arrays} | (
        {"units", "e_unit", "r_unit", *TEXTS, *agreeing, *SPREADS} & arrays.keys()
    )
    count = NameCount()
    labels = [*STRUCTURE, *(label for label, key in zip(("energy", "forces"), keys[2:], strict=True) if key in arrays)]
    readings = {name: convention for one in stated for name, convention in one.readings}
    count.add([key for key in arrays if key not in keys[:2]], read, labels, readings.items())
    names_found = count.names()
    every = [
        dict.fromkeys(names, len(frames)) for names in (names_found.read, names_found.unread, names_found.overlooked)
    ]
    return FrameSet(frames, path, files=(path,), names=FoundNames(len(frames), *every))


def load_arrays(stream: IO[bytes], size: int) -> dict[str, FloatArray]:
    """Load the arrays of an npz file of ``size`` bytes after comparing their shapes with their sizes.

    Raises:
        ValueError: An array is larger than its file, or does not have a plain numerical type.
        Exception: The file is damaged; zipfile and NumPy raise various exceptions.
    """
    with ZipFile(stream) as archive:
        check_archive(archive, size)
        arrays = {}
        for member in archive.infolist():
            with archive.open(member) as content:
                arrays[member.filename.removesuffix(".npy")] = _load_array(content, member)
    return arrays


def _load_array(content: IO[bytes], member: ZipInfo) -> FloatArray:
    version = np.lib.format.read_magic(content)
    read_header = _HEADERS.get(version)
    if read_header is None:
        raise ValueError(f"{shown(member.filename)} has an unsupported version of the npy format, {version}")
    shape, fortran, dtype = read_header(content)
    if dtype.hasobject:
        raise ValueError(f"{shown(member.filename)} contains Python objects")
    count = math.prod(shape)
    expected = count * dtype.itemsize
    if not 0 <= expected <= member.file_size:
        raise TooLargeError(f"{shown(member.filename)} has the shape {shape} but only {member.file_size} bytes")
    data = content.read(expected)
    if len(data) != expected or content.read(1):
        raise ValueError(f"{shown(member.filename)} has the shape {shape}, which does not match its size")
    return np.frombuffer(data, dtype=dtype, count=count).reshape(shape, order="F" if fortran else "C")


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _units(path: Path, arrays: dict[str, FloatArray], named: LabelUnits | None) -> LabelUnits:
    try:
        stated = _stated_units(arrays)
    except ConfigError as error:
        raise DataError(f"{path}: the units in the file cannot be used: {error}") from None
    if stated is None and named is None:
        raise DataError(f"{path}: contains no units: give them, such as units='kcal/mol, angstrom'")
    if stated is not None and named not in (None, stated):
        text = ", ".join(str(text_of(arrays[key])) for key in ("units", "e_unit", "r_unit") if key in arrays)
        raise DataError(f"{path}: contains its units, {quoted(text)}: leave out units, or give the same units")
    units = stated or named
    assert units is not None
    return units


def _stated_units(arrays: dict[str, FloatArray]) -> LabelUnits | None:
    """Return the units stored under ``units``, or under ``e_unit`` and ``r_unit`` as in sGDML.

    Raises:
        ConfigError: A unit is unknown.
    """
    keys = [key for key in ("units", "e_unit", "r_unit") if key in arrays]
    texts = {key: str(arrays[key][()]) if (text := text_of(arrays[key])) is None else text for key in keys}
    if "units" in texts:
        return parse_units(texts["units"])
    if "e_unit" not in texts:
        return None
    return LabelUnits(energy_unit(texts["e_unit"]), length_unit(texts.get("r_unit", "angstrom")))


def _check_no_cell(path: Path, arrays: dict[str, FloatArray]) -> None:
    """Refuse arrays that describe a cell, because the frames would be read as molecules.

    Raises:
        DataError: The file contains a cell that is not zero, or periodic directions.
    """
    for key, array in arrays.items():
        is_cell = label_of(key) == CELL and array.size >= 3
        if (is_cell or key.lower() == "pbc") and array.dtype.kind in "fiub" and np.any(array):
            raise DataError(
                f"{path}: contains a cell, {quoted(shown(key))}, but frames of npz files are read as molecules: "
                "convert the file to extended XYZ, or remove the cell of a molecule"
            )


def _charges(path: Path, arrays: dict[str, FloatArray], keys: tuple[str, ...]) -> list[ChargeSpin]:
    """Return the charge and spin of each frame. An array has one value, or one value for each frame."""
    count, species = len(arrays[keys[1]]), arrays[keys[0]]
    values = {name: arrays[name].reshape(-1) for name in NAMES if name in arrays and arrays[name].dtype.kind in "fiu"}
    for name, column in values.items():
        if len(column) not in (1, count):
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, expected one value or ({count},)")
    if not values:
        return [NO_CHARGE] * count
    columns = {name: np.broadcast_to(column, (count,)) for name, column in values.items()}
    numbers = atomic_numbers_of(f"{path}: {keys[0]}", species)
    known: dict[tuple[float, ...], ChargeSpin] = {}
    stated = []
    for index, row in enumerate(np.stack(list(columns.values()), axis=1).tolist()):
        if tuple(row) not in known:
            known[tuple(row)] = stated_charge(dict(zip(columns, row, strict=True)), numbers, f"{path}: frame {index}")
        stated.append(known[tuple(row)])
    return stated


def _check_shapes(path: Path, species: tuple[int, ...], positions: tuple[int, ...], keys: tuple[str, ...]) -> None:
    """Check the shapes of species and positions, before anything is made for each frame."""
    if len(species) != 1 or len(positions) != 3 or positions[1:] != (species[0], 3):
        raise DataError(
            f"{path}: {keys[0]} has shape {species} and {keys[1]} {positions}; expected (atoms,) and (frames, atoms, 3)"
        )
    if not species[0]:
        raise DataError(f"{path}: contains no atoms")
    if not positions[0]:
        raise DataError(f"{path}: contains no structure")
    check_count(positions[0], path.stat().st_size)


def _frames(
    path: Path,
    arrays: dict[str, FloatArray],
    keys: tuple[str, ...],
    units: LabelUnits,
    stated: list[ChargeSpin],
) -> list[Frame]:
    species_key, positions_key, energy_key, forces_key = keys
    species = arrays[species_key]
    positions = arrays[positions_key]
    count = len(positions)
    energies = _labels(path, arrays, energy_key, (count,), units.energy)
    forces = _labels(path, arrays, forces_key, positions.shape, units.force)
    numbers = atomic_numbers_of(f"{path}: {species_key}", species)
    positions = _numbers(path, arrays, positions_key) * units.length
    frames = [
        Frame(
            numbers,
            positions[i],
            float(energies[i]),
            forces[i],
            charge=stated[i].charge,
            unpaired_electrons=stated[i].unpaired_electrons,
        )
        for i in range(count)
    ]
    if any(key in arrays for key in SPREADS):
        of_energy = _labels(path, arrays, SPREADS[0], (count,), units.energy)
        of_forces = _labels(path, arrays, SPREADS[1], positions.shape[:2], units.force)
        frames = [
            replace(frame, **_spreads(f"{path}: frame {i}", of_energy[i], of_forces[i]))
            for i, frame in enumerate(frames)
        ]
    for key in TEXTS.keys() & arrays.keys():
        texts: list[dict[str, Any]] = [{key: text} for text in _texts(path, arrays, key, count)]
        frames = [replace(frame, **text) for frame, text in zip(frames, texts, strict=True)]
    given = [name for name, key in (("energy", energy_key), ("forces", forces_key)) if key in arrays]
    for index, frame in enumerate(frames):
        check_frame(path, index, frame, given)
    return frames


def _texts(path: Path, arrays: dict[str, FloatArray], key: str, count: int) -> list[str]:
    """Return a text of each frame. An array has one text, or one text for each frame."""
    values = arrays[key].reshape(-1)
    if values.dtype.kind != "U" or len(values) not in (1, count):
        raise DataError(f"{path}: {key} has shape {values.shape}, expected one text or ({count},)")
    return [shown_text(key, str(text)) for text in np.broadcast_to(values, (count,))]


def _spreads(where: str, energy: float, forces: FloatArray) -> dict[str, Any]:
    spreads: dict[str, Any] = {}
    if not np.isnan(energy):
        spreads["energy_spread"] = float(checked_spread(where, "energy spread", np.array([energy]), 1)[0])
    if not np.isnan(forces).all():
        spreads["force_spread"] = checked_spread(where, "force spread", forces, len(forces))
    return spreads


def _numbers(path: Path, arrays: dict[str, FloatArray], key: str) -> FloatArray:
    if arrays[key].dtype.kind not in "fiu":
        raise DataError(f"{path}: {key} is of type {arrays[key].dtype}; expected real numbers")
    return arrays[key].astype(np.float64)


def _labels(path: Path, arrays: dict[str, FloatArray], key: str, shape: tuple[int, ...], factor: float) -> FloatArray:
    if key not in arrays:
        return np.full(shape, np.nan)
    values = _numbers(path, arrays, key)
    if len(shape) == 1 and values.shape == (shape[0], 1):
        values = values.reshape(shape)
    if values.shape != shape:
        raise DataError(f"{path}: {key} has shape {values.shape}, expected {shape}")
    return values * factor


def write_npz(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames of one molecule and their units with the keys of rMD17.

    Raises:
        DataError: The frames have different atoms or a cell, or only some frames have a label.
    """
    positions, energies, forces, states, species = [], [], [], [], None
    energy_spreads, force_spreads = [], []
    texts: dict[str, list[str]] = {key: [] for key in TEXTS}
    for index, frame in enumerate(frames):
        species = frame.species if species is None else species
        if not np.array_equal(frame.species, species) or frame.cell.any() or frame.has_stress:
            raise DataError(
                f"{path.suffix} can contain only frames of one molecule, but frame {index} has "
                f"{'a cell' if frame.cell.any() or frame.has_stress else 'other atoms'}: write .h5 or .extxyz instead"
            )
        positions.append(frame.positions)
        energies.append(frame.energy)
        forces.append(frame.forces)
        for key in TEXTS:
            texts[key].append(getattr(frame, key))
        states.append((frame.charge, frame.unpaired_electrons))
        energy_spreads.append(frame.energy_spread)
        none = np.full(len(frame.species), np.nan)
        force_spreads.append(none if frame.force_spread is None else frame.force_spread)
    arrays: dict[str, Any] = {"nuclear_charges": species, "coords": np.array(positions)}
    for name, labels in (("energies", np.array(energies)), ("forces", np.array(forces))):
        missing = np.isnan(labels).reshape(len(labels), -1).any(1)
        if missing.any() and not missing.all():
            raise DataError(
                f"{path.suffix} cannot represent missing labels, but {missing.sum()} of {len(missing)} frames have "
                f"no {name}: write .h5 or .extxyz instead"
            )
        if not missing.any():
            arrays[name] = labels
    for name, column in zip((CHARGE, UNPAIRED), np.array(states).T, strict=True):
        if not np.isnan(column).all():  # NaN for frames that state none
            arrays[name] = column if np.isnan(column).any() else column.astype(np.int64)
    for name, values in zip(SPREADS, (np.array(energy_spreads), np.array(force_spreads)), strict=True):
        if not np.isnan(values).all():
            arrays[name] = values
    arrays |= {key: np.array(values) for key, values in texts.items() if any(values)}
    np.savez_compressed(path, **arrays, units=np.array("eV, angstrom"))
