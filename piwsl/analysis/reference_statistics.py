"""Statistics of a reference, sufficient for comparisons without the frames. They can be saved as npz."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np

from piwsl.analysis.quantities import standard_quantities
from piwsl.analysis.quantity import Quantity, Sample, checked_quantities, measure, survey_frames
from piwsl.errors import ConfigError, DataError, not_a_file, reason_of
from piwsl.runs.files import read_checked_npz, write_checked_npz
from piwsl.structures.bonds import Bonds, MeanDistances
from piwsl.structures.periodic import ImageBonds
from piwsl.trajectories.frame_source import FrameSource, first_frame, unwrapped
from piwsl.typing import FloatArray, IntArray

FORMAT = "piwsl-reference-statistics"
FORMAT_VERSION = 4


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of a reference.

    Attributes:
        name: Display name.
        species: Atomic numbers (atoms,).
        bonds: Bonds of the reference.
        start: Positions (atoms, 3) of the first frame, angstrom.
        is_periodic: Whether the frames have cells.
        frames: Number of frames.
        measured: Statistics over all frames, by key of the quantity.
        length: Time from the first to the last frame, fs; None for frames without times.
        digest: SHA-256 of the elements and of the positions in single precision.
        notes: Remarks of the reader.
        weights: Masses (atoms,) used as weights for structural quantities, amu.
    """

    name: str
    species: IntArray
    bonds: Bonds
    start: FloatArray
    is_periodic: bool
    frames: int
    measured: Mapping[str, Any]
    length: float | None
    digest: str
    notes: tuple[str, ...] = ()
    weights: FloatArray | None = None


def collect_statistics(
    name: str, source: FrameSource, quantities: Sequence[Quantity[Any]] = (), weights: FloatArray | None = None
) -> ReferenceStatistics:
    """Collect the statistics of a source of frames in two passes.

    Args:
        name: Name of the reference.
        source: Frames of the reference.
        quantities: Custom quantities, measured in addition to those in `piwsl.analysis.quantities`.
        weights: Masses (atoms,) used as weights for structural quantities, amu; by default the masses of the source.

    Raises:
        DataError: A position is not a finite number, there are no bonds, or the source is damaged.
        ConfigError: ``quantities`` contains an object of another type, or two quantities have the same key.
    """
    start, cell = first_frame(source)
    measured_quantities = checked_quantities(standard_quantities(cell is not None), quantities)
    surveys = survey_frames(measured_quantities, source.species)
    check = _Checked(name, source.species)
    means = MeanDistances(source.species) if cell is None else None
    images = None if cell is None else ImageBonds(source.species, start, cell)
    source = source if cell is None else unwrapped(source)
    for first, positions, cells in source.pieces_with_cells():
        check.add(positions, first)
        if means is not None:
            means.add(positions)
        if images is not None and cells is not None:
            images.add(positions, cells)
        for survey in surveys.values():
            survey.add(positions, first)
    bonds = (means or images).bonds()  # type: ignore[union-attr]  # exactly one of them is set
    sample = Sample(source, source.frames, bonds, start, cell, name, surveys, weights=weights)
    measured = measure(sample, measured_quantities)
    length = None if source.times is None else float(source.times[-1] - source.times[0])
    return ReferenceStatistics(
        name, source.species, bonds, start, cell is not None, source.frames, measured, length, check.digest,
        source.notes, sample.masses,
    )  # fmt: skip


class _Checked:
    """Check that positions are finite, and compute their hash."""

    def __init__(self, name: str, species: IntArray) -> None:
        self._name = name
        self._hash = sha256(species.astype("<i8").tobytes())

    def add(self, positions: FloatArray, first: int) -> None:
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))
        if len(bad):
            raise DataError(f"{self._name}: frame {first + int(bad[0])}: a position is not a finite number")
        self._hash.update(np.ascontiguousarray(positions, dtype="<f4").tobytes())

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def save_statistics(
    statistics: ReferenceStatistics, path: str | Path, quantities: Sequence[Quantity[Any]] = ()
) -> None:
    """Write an npz file atomically; `read_reference_statistics` reads it.

    Args:
        statistics: Statistics of the reference.
        path: Path of the file.
        quantities: Custom quantities that were measured.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    path, bonds = Path(path), statistics.bonds
    values: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": statistics.name,
        "species": statistics.species,
        "frames": statistics.frames,
        "length_fs": np.nan if statistics.length is None else statistics.length,
        "sha256": statistics.digest,
        "notes": np.array(statistics.notes, dtype=np.str_),
        "is_periodic": statistics.is_periodic,
        "bond_pairs": bonds.pairs,
        "bond_lengths": bonds.lengths,
        "bond_types": np.array(bonds.types, dtype=np.str_),
        "start": statistics.start,
    }
    if statistics.weights is not None:
        values["weights"] = statistics.weights
    if bonds.images is not None:
        values["bond_images"] = bonds.images
    for quantity in (*standard_quantities(statistics.is_periodic), *quantities):
        if quantity.key in statistics.measured:
            arrays = quantity.save(statistics.measured[quantity.key])
            values |= {f"{quantity.key}/{name}": array for name, array in arrays.items()}
    write_checked_npz(path, {name: np.asarray(value) for name, value in values.items()})


def is_reference_statistics(path: Path) -> bool:
    """Return whether a file contains the statistics of a reference instead of frames."""
    if not path.is_file() or not is_zipfile(path):
        return False
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return "format" in archive.files and str(archive["format"]) == FORMAT
    except Exception:  # NumPy and zipfile raise any exception for damaged files
        return False


def read_reference_statistics(path: Path, quantities: Sequence[Quantity[Any]] = ()) -> ReferenceStatistics:
    """Read a file written by `save_statistics`.

    Args:
        path: Path of the file.
        quantities: Custom quantities. If the file lacks their statistics, they are not compared with the reference.

    Raises:
        DataError: The file is missing, damaged, of another kind, or was written by another version of piwsl.
    """
    if not path.is_file():
        raise DataError(not_a_file(path))
    if not is_reference_statistics(path):
        raise DataError(f"{path}: contains no reference statistics: create them with save_reference=FILE")
    again = "create it again with save_reference=FILE"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            version = int(archive["format_version"])
            if version > FORMAT_VERSION:
                raise DataError(f"{path}: format version {version} was written by a newer piwsl: update piwsl")
            if version < FORMAT_VERSION:
                raise DataError(f"{path}: written by an older piwsl: {again}")
        return _restored(read_checked_npz(path), quantities)
    except (DataError, ConfigError):
        raise
    except Exception as error:  # NumPy and zipfile raise any exception for damaged files
        raise DataError(f"{path}: damaged ({reason_of(error)}): {again}") from None


def _restored(values: Mapping[str, Any], quantities: Sequence[Quantity[Any]]) -> ReferenceStatistics:
    is_periodic = bool(values["is_periodic"])
    types = tuple(str(kind) for kind in values["bond_types"])
    images = values["bond_images"] if is_periodic else None
    measured = {}
    for quantity in checked_quantities(standard_quantities(is_periodic), quantities):
        prefix = f"{quantity.key}/"
        arrays = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        if arrays:
            measured[quantity.key] = quantity.load(arrays)
    length = float(values["length_fs"])
    return ReferenceStatistics(
        name=str(values["name"]),
        species=values["species"],
        bonds=Bonds(values["bond_pairs"], values["bond_lengths"], types, images),
        start=values["start"],
        is_periodic=is_periodic,
        frames=int(values["frames"]),
        measured=measured,
        length=None if np.isnan(length) else length,
        digest=str(values["sha256"]),
        notes=tuple(str(note) for note in values["notes"]),
        weights=values.get("weights"),
    )
