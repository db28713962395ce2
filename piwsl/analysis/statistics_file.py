"""Statistics of a reference as an npz file, for later comparisons without its frames."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np

from piwsl.analysis.crystal import CrystalStatistics
from piwsl.analysis.molecule import StructureStatistics
from piwsl.analysis.quantities.angles import DEGREE, InternalStatistics
from piwsl.analysis.quantities.bond_lengths import BondStatistics
from piwsl.analysis.quantities.diffusion import Displacements
from piwsl.analysis.quantities.distances import DistanceHistograms
from piwsl.analysis.quantities.radial import RadialHistogram
from piwsl.analysis.quantities.shape import ShapeStatistics
from piwsl.analysis.quantities.spectrum import Vibrations
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.statistics.distributions import Histogram
from piwsl.analysis.statistics.uncertainty import BlockSums
from piwsl.errors import DataError
from piwsl.runs.files import atomic_path
from piwsl.structures.bonds import Bonds

FORMAT = "piwsl-reference-statistics"
FORMAT_VERSION = 2
_INTERNAL = ("angles", "dihedrals", "rotations")
_Get = Callable[[str], Any]


def save_statistics(statistics: ReferenceStatistics, path: Path) -> None:
    """Write an npz file, whole or not at all; `read_reference_statistics` reads it.

    Raises:
        DataError: the file cannot be written.
    """
    bonds, structure = statistics.bonds, statistics.structure
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
    if bonds.images is not None:
        values["bond_images"] = bonds.images
    for kind, bond in structure.bonds.items():
        values |= _packed(f"bond.{kind}", bond.histogram)
        values |= {f"bond.{kind}.count": bond.count, f"bond.{kind}.center": bond.center}
        values |= {f"bond.{kind}.moments": bond.moments.sums}
    values |= _packed_crystal(structure) if isinstance(structure, CrystalStatistics) else _packed_molecule(structure)
    if structure.vibrations is not None:
        values |= _packed("spectrum", structure.vibrations.spectrum, np.float64)
        values |= {"vacf.lags": structure.vibrations.lags} | _packed_sums("vacf", structure.vibrations.correlation)
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **values)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def is_reference_statistics(path: Path) -> bool:
    """Whether a file holds the statistics of a reference (and not its frames)."""
    if not path.is_file() or not is_zipfile(path):
        return False
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "format" in archive.files and str(archive["format"]) == FORMAT
    except (OSError, ValueError, BadZipFile):
        return False


def read_reference_statistics(path: Path) -> ReferenceStatistics:
    """Read what `save_statistics` wrote.

    Raises:
        DataError: missing, damaged, something else, or of another version of piwsl.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not is_reference_statistics(path):
        raise DataError(f"{path}: holds no statistics of a reference: make them with --save-reference")
    try:
        with np.load(path, allow_pickle=False) as archive:
            version = int(archive["format_version"])
            if version > FORMAT_VERSION:
                raise DataError(f"{path}: format version {version} is of a newer piwsl: update piwsl")
            if version < FORMAT_VERSION:
                raise DataError(f"{path}: of an older piwsl: make it again with --save-reference")
            return _unpacked_statistics(archive.__getitem__)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged ({reason}): make it again with --save-reference") from None


def _unpacked_statistics(get: _Get) -> ReferenceStatistics:
    is_periodic = bool(get("is_periodic"))
    types = tuple(str(kind) for kind in get("bond_types"))
    bonds = Bonds(get("bond_pairs"), get("bond_lengths"), types, get("bond_images") if is_periodic else None)
    by_type = {}
    for kind in bonds.by_type():
        histogram = _unpacked(get, f"bond.{kind}")
        moments = BlockSums(get(f"bond.{kind}.moments"), histogram.blocks.samples)
        count, center = int(get(f"bond.{kind}.count")), float(get(f"bond.{kind}.center"))
        by_type[kind] = BondStatistics(count, center, moments, histogram)
    length = float(get("length_fs"))
    return ReferenceStatistics(
        name=str(get("name")),
        species=get("species"),
        bonds=bonds,
        start=get("start"),
        structure=(_unpacked_crystal if is_periodic else _unpacked_molecule)(get, int(get("frames")), by_type),
        length=None if np.isnan(length) else length,
        digest=str(get("sha256")),
        notes=tuple(str(note) for note in get("notes")),
    )


def _packed_molecule(structure: StructureStatistics) -> dict[str, Any]:
    values = _packed("h_of_r", structure.distances.all_pairs)
    values |= _packed_all("pair_kinds", "h_of_r", structure.distances.by_kind)
    for group in _INTERNAL:
        values |= _packed_all(group, group, getattr(structure.internal, group))
    values["shapes"] = np.array(list(structure.shape.sums), dtype=np.str_)
    for name, sums in structure.shape.sums.items():
        values |= _packed_sums(f"shapes.{name}", sums)
    return values


def _unpacked_molecule(get: _Get, frames: int, bonds: dict[str, BondStatistics]) -> StructureStatistics:
    distances = DistanceHistograms(_unpacked(get, "h_of_r"), _unpacked_all(get, "pair_kinds", "h_of_r"))
    internal = InternalStatistics(*(_unpacked_all(get, group, group, DEGREE) for group in _INTERNAL))
    shape = {str(name): _unpacked_sums(get, f"shapes.{name}") for name in get("shapes")}
    shapes = ShapeStatistics(shape, {}, np.zeros(0, dtype=np.int64))
    return StructureStatistics(frames, distances, bonds, internal, shapes, _unpacked_vibrations(get))


def _packed_crystal(structure: CrystalStatistics) -> dict[str, Any]:
    values = _packed_all("radial_kinds", "rdf", structure.radial, np.float64)
    for kind, radial in structure.radial.items():
        values[f"rdf.{kind}.neighbors"] = np.array([radial.per_first, radial.per_second])
    values |= _packed_all("angles", "angles", structure.angles) | _packed_sums("volume", structure.volume)
    values["elements"] = np.array(list(structure.displacements), dtype=np.str_)
    for element, found in structure.displacements.items():
        values |= {f"msd.{element}.lags": found.lags, f"msd.{element}.blocks": found.blocks}
    return values


def _unpacked_crystal(get: _Get, frames: int, bonds: dict[str, BondStatistics]) -> CrystalStatistics:
    radial = {}
    for kind, one in _unpacked_all(get, "radial_kinds", "rdf").items():
        first, second = get(f"rdf.{kind}.neighbors")
        radial[kind] = RadialHistogram(one.edges, one.blocks, one.beyond, one.unit, float(first), float(second))
    displacements = {
        str(name): Displacements(get(f"msd.{name}.lags"), get(f"msd.{name}.blocks")) for name in get("elements")
    }
    angles, volume = _unpacked_all(get, "angles", "angles", DEGREE), _unpacked_sums(get, "volume")
    return CrystalStatistics(frames, radial, bonds, angles, volume, displacements, _unpacked_vibrations(get))


def _unpacked_vibrations(get: _Get) -> Vibrations | None:
    try:
        spectrum = _unpacked(get, "spectrum", "1/cm")
    except KeyError:  # its frames were too far apart
        return None
    return Vibrations(spectrum, get("vacf.lags"), _unpacked_sums(get, "vacf"))


def _packed_all(names: str, key: str, found: Mapping[str, Histogram], kind: type = np.int64) -> dict[str, Any]:
    values: dict[str, Any] = {names: np.array(list(found), dtype=np.str_)}
    for name, histogram in found.items():
        values |= _packed(f"{key}.{name}", histogram, kind)
    return values


def _unpacked_all(get: _Get, names: str, key: str, unit: str = "angstrom") -> dict[str, Histogram]:
    return {str(name): _unpacked(get, f"{key}.{name}", unit) for name in get(names)}


def _packed_sums(key: str, sums: BlockSums) -> dict[str, Any]:
    return {f"{key}.sums": sums.sums, f"{key}.samples": sums.samples}


def _unpacked_sums(get: _Get, key: str) -> BlockSums:
    return BlockSums(get(f"{key}.sums"), int(get(f"{key}.samples")))


def _packed(key: str, histogram: Histogram, kind: type = np.int64) -> dict[str, Any]:
    return {
        f"{key}.edges": histogram.edges,
        f"{key}.blocks": histogram.blocks.sums.astype(kind),
        f"{key}.samples": histogram.blocks.samples,
        f"{key}.beyond": histogram.beyond,
    }


def _unpacked(get: _Get, key: str, unit: str = "angstrom") -> Histogram:
    blocks = BlockSums(get(f"{key}.blocks").astype(np.float64), int(get(f"{key}.samples")))
    return Histogram(get(f"{key}.edges"), blocks, int(get(f"{key}.beyond")), unit)
