"""The packed format: labeled structures of any size in one HDF5 file with random access.

The atoms of all frames are concatenated; ``offsets`` (n + 1) contains the index of the first atom of each frame.
Lengths are in angstrom, energies in eV, forces in eV/angstrom, stress in eV/angstrom^3 (positive under tension). The
attribute ``unit`` of an array contains its unit. Missing labels are NaN. The arrays ``charge`` (e) and
``unpaired_electrons`` exist only if a frame states such a value. The file contains the name and version of the format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piwsl.data.census import Census, CompositionTable
from piwsl.data.charges import CHARGE, UNPAIRED, stated_charge
from piwsl.data.formats.hdf5 import check_stored, open_hdf5, opened, plain_array
from piwsl.data.formats.labels import EV_ANGSTROM, TEXTS, check_frame, checked_spread, shown_text
from piwsl.data.formats.stated_units import check_stated_units, text_of
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess
from piwsl.data.names import FoundNames, shown
from piwsl.errors import DataError, quoted
from piwsl.runs.steady_file import SteadyFile

if TYPE_CHECKING:
    import h5py
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from piwsl.data.formats.hdf5 import h5py_module

FORMAT = "piwsl-frames"
VERSION = 1


@dataclass(frozen=True)
class Field:
    """Description of one array in the file.

    Attributes:
        per_atom: Whether the array has a row for each atom; otherwise it has a row for each frame.
        shape: Shape of a row.
        dtype: Data type in the file.
        missing: Value for missing data. Chunks that contain only this value take no space in the file.
        unit: Unit of the numbers.
        optional: Whether a file without such values lacks the array.
    """

    per_atom: bool
    shape: tuple[int, ...]
    dtype: str
    missing: float | bytes
    unit: str = ""
    optional: bool = False


FIELDS = {
    "species": Field(True, (), "u1", 0),
    "positions": Field(True, (3,), "f8", np.nan, "angstrom"),
    "forces": Field(True, (3,), "f8", np.nan, "eV/angstrom"),
    "cell": Field(False, (3, 3), "f8", 0, "angstrom"),
    "pbc": Field(False, (3,), "u1", 0),
    "energy": Field(False, (), "f8", np.nan, "eV"),
    "stress": Field(False, (3, 3), "f8", np.nan, "eV/angstrom^3"),
    "energy_spread": Field(False, (), "f8", np.nan, "eV", optional=True),
    "force_spread": Field(True, (), "f8", np.nan, "eV/angstrom", optional=True),
    CHARGE: Field(False, (), "f8", np.nan, "e", optional=True),
    UNPAIRED: Field(False, (), "f8", np.nan, optional=True),
    "config_type": Field(False, (), "S64", b"", optional=True),
    "labels_from": Field(False, (), "S256", b"", optional=True),
}
_LABELS = ("energy", "forces", "stress", "energy_spread", "force_spread")
OFFSETS = "offsets"
BLOCK = 1000  # frames read or written at once
_MANY = 100_000  # offsets checked at once


def is_packed(file: "h5py.File") -> bool:
    """Return whether an HDF5 file has the packed format."""
    return bool(file.attrs.get("format") == FORMAT)


def read_packed(path: Path) -> FrameSet:
    """Open a packed file; frames are read on access.

    Raises:
        DataError: The file is damaged, has another version, or contains no frame.
    """
    frames = PackedFrames(path)
    frames.probe()
    return FrameSet(frames, path, files=(path,), names=frames.names)


class PackedFrames(LazyFrames):
    """Frames in a packed file.

    Attributes:
        names: Names of the labels in the file, and of other arrays, which are not read.

    Raises:
        DataError: The file is damaged or has another version.
    """

    def __init__(self, path: Path) -> None:
        with opened(path) as file:
            super().__init__(path, _checked_count(path, file))
            labels = [name for name in _LABELS if name in file and file[name].id.get_storage_size()]
            labels += [name for name in (CHARGE, UNPAIRED, *TEXTS) if name in file]
            others = [shown(name) for name in file if name not in FIELDS and name != OFFSETS]
        self.names = FoundNames(len(self), dict.fromkeys(labels, len(self)), dict.fromkeys(others, len(self)))
        self._arrays = PerProcess(lambda: _Arrays(open_hdf5(path)), lambda arrays: arrays.close())

    def read(self, index: int) -> Frame:
        """Read one frame."""
        return self._block(index, index + 1)[0]

    def read_all(self) -> Iterator[Frame]:
        """Read all frames block by block."""
        for start in range(0, len(self), BLOCK):
            yield from self._block(start, min(start + BLOCK, len(self)))

    def __reduce__(self) -> tuple[type["PackedFrames"], tuple[Path]]:
        return PackedFrames, (self.path,)

    def survey(self) -> Census:
        """Collect the census of all frames from whole columns."""
        table, arrays = CompositionTable(), self._arrays()
        composition, energy = np.empty(len(self), dtype=np.int32), np.empty(len(self))
        charge_spin = np.empty((len(self), 2), dtype=np.float16)
        forces, stress, periodic, cells, spread = np.empty((5, len(self)), dtype=bool)
        origins: set[str] = set()
        for start in range(0, len(self), 10 * BLOCK):
            stop = min(start + 10 * BLOCK, len(self))
            ends = arrays.rows(OFFSETS, start, stop + 1)
            atoms = int(ends[0]), int(ends[-1])
            composition[start:stop] = table.rows(arrays.rows("species", *atoms), np.diff(ends))
            energy[start:stop] = arrays.rows("energy", start, stop)
            labeled = np.isfinite(arrays.rows("forces", *atoms)).all(1)
            forces[start:stop] = np.logical_and.reduceat(labeled, ends[:-1] - ends[0])
            stress[start:stop] = np.isfinite(arrays.rows("stress", start, stop)).all((1, 2))
            for column, name in enumerate((CHARGE, UNPAIRED)):
                charge_spin[start:stop, column] = arrays.rows(name, start, stop)
            pbc = arrays.rows("pbc", start, stop)
            periodic[start:stop], cells[start:stop] = pbc.any(1), pbc.all(1)
            spread[start:stop] = np.isfinite(arrays.rows("energy_spread", start, stop))
            of_atoms = np.isfinite(arrays.rows("force_spread", *atoms))
            spread[start:stop] |= np.logical_or.reduceat(of_atoms, ends[:-1] - ends[0])
            origins |= {_text("labels_from", text) for text in np.unique(arrays.rows("labels_from", start, stop))}
        marks = (forces, stress & cells, periodic, stress & ~cells)
        labels_from = tuple(sorted(origins - {""}))
        return Census(*table.counts(), composition, energy, *marks, charge_spin, spread, labels_from)

    def _block(self, start: int, stop: int) -> list[Frame]:
        arrays = self._arrays()
        ends = arrays.rows(OFFSETS, start, stop + 1)
        atoms, frames = (int(ends[0]), int(ends[-1])), (start, stop)
        part = {name: arrays.rows(name, *(atoms if known.per_atom else frames)) for name, known in FIELDS.items()}
        return [self._frame(start + i, i, slice(*(ends[i : i + 2] - ends[0])), part) for i in range(stop - start)]

    def _frame(self, index: int, row: int, atoms: slice, part: dict[str, Any]) -> Frame:
        forces, stress, pbc = part["forces"][atoms], part["stress"][row], part["pbc"][row]
        energy = float(part["energy"][row])
        named = {name: part[name][row] for name in (CHARGE, UNPAIRED)}
        stated = stated_charge(named, part["species"][atoms], f"{self.path}: frame {index}")
        texts: dict[str, Any] = {key: _text(key, part[key][row]) for key in TEXTS}
        spread, where = part["force_spread"][atoms], f"{self.path}: frame {index}"
        frame = Frame(
            species=part["species"][atoms].astype(np.int64),
            positions=part["positions"][atoms],
            energy=energy,
            forces=forces,
            cell=part["cell"][row],
            pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
            stress=stress,
            charge=stated.charge,
            unpaired_electrons=stated.unpaired_electrons,
            energy_spread=float(part["energy_spread"][row]),
            force_spread=None if np.isnan(spread).all() else checked_spread(where, "force spread", spread, len(spread)),
            **texts,
        )
        labels = (("energy", energy), ("forces", forces), ("stress", stress))
        check_frame(self.path, index, frame, [name for name, label in labels if not np.isnan(label).all()])
        return frame


def _text(key: str, stored: bytes) -> str:
    return shown_text(key, bytes(stored).decode(errors="ignore"))


class _Arrays:
    """Arrays of an open file, looked up once. Arrays without data are not read."""

    def __init__(self, file: "h5py.File") -> None:
        self._file = file
        self._arrays = {name: plain_array(file, name, "fiuS") for name in (*FIELDS, OFFSETS) if name in file}
        self._empty = {
            name: np.asarray(array.fillvalue)
            for name, array in self._arrays.items()
            if array.id.get_storage_size() == 0
        }

    def rows(self, name: str, start: int, stop: int) -> Any:
        """Return a copy of some rows of an array."""
        if name not in self._arrays:  # optional
            return np.full((stop - start, *FIELDS[name].shape), FIELDS[name].missing)
        array = self._arrays[name]
        if name in self._empty:
            return np.full((stop - start, *array.shape[1:]), self._empty[name], dtype=array.dtype)
        rows = array[start:stop]
        if len(rows) != stop - start:
            raise ValueError(f"{name} ends before row {stop}")
        return rows

    def close(self) -> None:
        self._file.close()


def _checked_count(path: Path, file: "h5py.File") -> int:
    """Check all shapes, and return the number of frames."""
    version = file.attrs.get("version", 0)
    if not np.array_equal(version, VERSION):
        raise DataError(
            f"{path}: in packed format {shown(str(version))}, but this piwsl reads format {VERSION}: convert it again"
        )
    try:
        check_stated_units(path, None, dict(file.attrs), EV_ANGSTROM)
    except DataError:
        raise DataError(
            f"{path}: its attributes state units other than eV and angstrom, but packed files use these: convert the "
            "original file with units="
        ) from None
    required = [name for name, known in FIELDS.items() if not known.optional]
    missing = [name for name in (*required, OFFSETS) if name not in file]
    if missing:
        raise DataError(f"{path}: this packed file lacks {', '.join(missing)}: convert it again")
    offsets = plain_array(file, OFFSETS, "iu")
    if offsets.ndim != 1:
        raise DataError(f"{path}: {OFFSETS} has shape {offsets.shape}, expected one dimension: convert it again")
    frames = len(offsets) - 1
    check_stored(offsets)
    atoms = int(offsets[frames]) if frames >= 0 else 0
    for name, known in FIELDS.items():
        if name not in file:
            continue
        if name == "species" and file[name].dtype.kind not in "iu":
            raise DataError(
                f"{path}: species are not integers, but {file[name].dtype}: convert the original file again"
            )
        array = plain_array(file, name, "S" if known.dtype.startswith("S") else "fiu")
        expected = (atoms if known.per_atom else frames, *known.shape)
        if array.shape != expected:
            raise DataError(f"{path}: {name} has shape {array.shape}, expected {expected}: convert it again")
        if known.unit and "unit" not in array.attrs:
            raise DataError(
                f"{path}: {name} states no unit, but packed files use {known.unit}: convert the original file with "
                "units="
            )
        for key, unit in array.attrs.items():
            if key.lower() in ("unit", "units") and text_of(unit) != known.unit:
                raise DataError(
                    f"{path}: {name} states the unit {quoted(unit)}, but packed files use {known.unit or 'no unit'}: "
                    "convert the original file with units="
                )
    for name in ("species", "positions"):  # all other arrays have at most as many rows
        check_stored(file[name])
    for start in range(0, frames, _MANY):
        ends = offsets[start : start + _MANY + 1].astype(np.int64)
        if (start == 0 and ends[0] != 0) or (np.diff(ends) < 1).any():
            raise DataError(f"{path}: {OFFSETS} do not increase from 0: convert it again")
    return frames


# Chunks are small, because reading one frame reads its whole chunk.
_CHUNK_ATOMS = 1024
_CHUNK_FRAMES = 256


def write_packed(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames block by block.

    Raises:
        MissingDependencyError: The package h5py is not installed.
        OSError: The file cannot be written.
    """
    with SteadyFile(path) as disk:
        _write(disk, frames)
        disk.check()


def _write(disk: SteadyFile, frames: Iterable[Frame]) -> None:
    # Since this version, HDF5 stores checksums of all metadata; `_create` adds checksums of the values.
    with h5py_module().File(disk, "w", libver=("v110", "v110")) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for name, known in (*FIELDS.items(), (OFFSETS, Field(False, (), "i8", 0))):
            if not known.optional:
                _create(file, name, known)
        file[OFFSETS].resize(1, axis=0)
        remaining = iter(frames)
        while block := list(islice(remaining, BLOCK)):
            _append(file, block)
            disk.check()


def _create(file: "h5py.File", name: str, known: Field) -> None:
    chunk = _CHUNK_ATOMS if known.per_atom else _CHUNK_FRAMES
    array = file.create_dataset(
        name,
        shape=(0, *known.shape),
        maxshape=(None, *known.shape),
        chunks=(chunk, *known.shape),
        dtype=known.dtype,
        fillvalue=known.missing,
        fletcher32=True,
    )
    if known.unit:
        array.attrs["unit"] = known.unit


def _values(frame: Frame, name: str) -> Any:
    value = getattr(frame, name)
    if isinstance(value, str):
        return value.encode()
    return np.full(len(frame.species), np.nan) if value is None else value


def _append(file: "h5py.File", block: Sequence[Frame]) -> None:
    offsets = file[OFFSETS]
    known_frames, atoms = len(offsets), int(offsets[-1])
    for name, known in FIELDS.items():
        rows = [_values(frame, name) for frame in block]
        values = np.concatenate(rows) if known.per_atom else np.array(rows)
        missing = np.array_equal(values, np.full_like(values, known.missing), equal_nan=known.dtype == "f8")
        if known.optional and name not in file:
            if missing:
                continue
            _create(file, name, known)
            file[name].resize(atoms if known.per_atom else known_frames - 1, axis=0)
        array = file[name]
        start = len(array)
        array.resize(start + len(values), axis=0)
        if not missing:
            array[start:] = values
    offsets.resize(known_frames + len(block), axis=0)
    offsets[known_frames:] = atoms + np.cumsum([len(frame.species) for frame in block])
