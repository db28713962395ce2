"""What a comparison needs of a reference, without its frames: collected once, saved, and loaded again."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np

from piwsl.data.files import atomic_path
from piwsl.errors import DataError
from piwsl.md.analysis.bonds import Bonds, BondStatistics, MeanDistances
from piwsl.md.analysis.distances import DistanceHistograms
from piwsl.md.analysis.distributions import Histogram
from piwsl.md.analysis.frame_source import FrameSource
from piwsl.md.analysis.internal import DEGREE, InternalStatistics
from piwsl.md.analysis.shape import ShapeStatistics
from piwsl.md.analysis.slow_motion import ModeSampler
from piwsl.md.analysis.structure import StructureStatistics, structure_of
from piwsl.md.analysis.uncertainty import BlockSums
from piwsl.typing import FloatArray, IntArray

FORMAT = "piwsl-reference-statistics"
FORMAT_VERSION = 1
_INTERNAL = ("angles", "dihedrals", "rotations")


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of a reference.

    Attributes:
        name: for people.
        species: (atoms,) atomic numbers.
        bonds: of the reference.
        start: (atoms, 3) angstrom, its first frame.
        structure: histograms and moments over all its frames.
        length: from the first to the last frame, fs; None for frames without times.
        digest: SHA-256 of the elements and of the positions in single precision.
        notes: what the reader had to say.
    """

    name: str
    species: IntArray
    bonds: Bonds
    start: FloatArray
    structure: StructureStatistics
    length: float | None
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.structure.frames

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all; `read_reference_statistics` reads it.

        Raises:
            DataError: the file cannot be written.
        """
        values: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "species": self.species,
            "frames": self.frames,
            "length_fs": np.nan if self.length is None else self.length,
            "sha256": self.digest,
            "notes": np.array(self.notes, dtype=np.str_),
            "bond_pairs": self.bonds.pairs,
            "bond_lengths": self.bonds.lengths,
            "bond_types": np.array(self.bonds.types, dtype=np.str_),
            "start": self.start,
            "pair_kinds": np.array(list(self.structure.distances.by_kind), dtype=np.str_),
        }
        values |= _packed("h_of_r", self.structure.distances.all_pairs)
        for kind, histogram in self.structure.distances.by_kind.items():
            values |= _packed(f"h_of_r.{kind}", histogram)
        for kind, bond in self.structure.bonds.items():
            values |= _packed(f"bond.{kind}", bond.histogram)
            values |= {f"bond.{kind}.count": bond.count, f"bond.{kind}.centre": bond.centre}
            values |= {f"bond.{kind}.moments": bond.moments.sums}
        values |= _packed_further(self.structure)
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **values)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def collect_statistics(name: str, source: FrameSource) -> ReferenceStatistics:
    """Statistics of a source of frames, in two passes over it.

    Raises:
        DataError: a position is not a finite number, there are no bonds, or the source is damaged.
    """
    means, sampler = MeanDistances(source.species), ModeSampler(len(source.species))
    digest = sha256(source.species.astype("<i8").tobytes())
    start = np.zeros((len(source.species), 3))
    for first, positions in source.pieces():
        if first == 0:
            start = np.array(positions[0], dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))
        if len(bad):
            raise DataError(f"{name}: frame {first + int(bad[0])}: a position is not a finite number")
        means.add(positions)
        sampler.add(positions, first)
        digest.update(np.ascontiguousarray(positions, dtype="<f4").tobytes())
    bonds = means.bonds()
    structure = structure_of(source, bonds, sampler.modes(), source.frames, start)
    length = None if source.times is None else float(source.times[-1] - source.times[0])
    return ReferenceStatistics(name, source.species, bonds, start, structure, length, digest.hexdigest(), source.notes)


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
    """Read what `ReferenceStatistics.save` wrote.

    Raises:
        DataError: missing, damaged, something else, or of a newer piwsl.
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
            return _unpacked_statistics(archive.__getitem__)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged ({reason}): make it again with --save-reference") from None


def _unpacked_statistics(get: Callable[[str], Any]) -> ReferenceStatistics:
    bonds = Bonds(get("bond_pairs"), get("bond_lengths"), tuple(str(kind) for kind in get("bond_types")))
    by_kind = {str(kind): _unpacked(get, f"h_of_r.{kind}") for kind in get("pair_kinds")}
    by_type = {}
    for kind in bonds.by_type():
        histogram = _unpacked(get, f"bond.{kind}")
        moments = BlockSums(get(f"bond.{kind}.moments"), histogram.blocks.samples)
        count, centre = int(get(f"bond.{kind}.count")), float(get(f"bond.{kind}.centre"))
        by_type[kind] = BondStatistics(count, centre, moments, histogram)
    distances = DistanceHistograms(_unpacked(get, "h_of_r"), by_kind)
    length = float(get("length_fs"))
    return ReferenceStatistics(
        name=str(get("name")),
        species=get("species"),
        bonds=bonds,
        start=get("start"),
        structure=StructureStatistics(int(get("frames")), distances, by_type, *_unpacked_further(get)),
        length=None if np.isnan(length) else length,
        digest=str(get("sha256")),
        notes=tuple(str(note) for note in get("notes")),
    )


def _packed_further(structure: StructureStatistics) -> dict[str, Any]:
    """Angles, dihedrals, rotations, shape and spectrum."""
    values: dict[str, Any] = {}
    for group in _INTERNAL:
        found: dict[str, Histogram] = getattr(structure.internal, group)
        values[group] = np.array(list(found), dtype=np.str_)
        for name, histogram in found.items():
            values |= _packed(f"{group}.{name}", histogram)
    values["shapes"] = np.array(list(structure.shape.sums), dtype=np.str_)
    for name, sums in structure.shape.sums.items():
        values |= {f"shapes.{name}.sums": sums.sums, f"shapes.{name}.samples": sums.samples}
    return values | ({} if structure.spectrum is None else _packed("spectrum", structure.spectrum, np.float64))


def _unpacked_further(get: Callable[[str], Any]) -> tuple[InternalStatistics, ShapeStatistics, Histogram | None]:
    groups = [{str(name): _unpacked(get, f"{group}.{name}", DEGREE) for name in get(group)} for group in _INTERNAL]
    sums = {
        str(name): BlockSums(get(f"shapes.{name}.sums"), int(get(f"shapes.{name}.samples"))) for name in get("shapes")
    }
    try:
        spectrum = _unpacked(get, "spectrum", "1/cm")
    except KeyError:  # its frames were too far apart
        spectrum = None
    return InternalStatistics(*groups), ShapeStatistics(sums, {}, np.zeros(0, dtype=np.int64)), spectrum


def _packed(key: str, histogram: Histogram, kind: type = np.int64) -> dict[str, Any]:
    counts: FloatArray = histogram.blocks.sums
    return {
        f"{key}.edges": histogram.edges,
        f"{key}.blocks": counts.astype(kind),
        f"{key}.samples": histogram.blocks.samples,
        f"{key}.beyond": histogram.beyond,
    }


def _unpacked(get: Callable[[str], Any], key: str, unit: str = "angstrom") -> Histogram:
    blocks = BlockSums(get(f"{key}.blocks").astype(np.float64), int(get(f"{key}.samples")))
    return Histogram(get(f"{key}.edges"), blocks, int(get(f"{key}.beyond")), unit)
