"""What a comparison needs of a reference, without its frames: collected once, and saved by `statistics_file`."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from piwsl.analysis.crystal import CrystalStatistics, crystal_structure_of
from piwsl.analysis.molecule import StructureStatistics, structure_of
from piwsl.analysis.quantities.slow_motion import ModeSampler
from piwsl.errors import DataError
from piwsl.structures.bonds import Bonds, MeanDistances
from piwsl.structures.periodic import ImageBonds
from piwsl.trajectories.source import FrameSource, first_frame, unwrapped
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of a reference.

    Attributes:
        name: for people.
        species: (atoms,) atomic numbers.
        bonds: of the reference.
        start: (atoms, 3) angstrom, its first frame.
        structure: histograms and moments over all its frames, of a molecule or of a periodic cell.
        length: from the first to the last frame, fs; None for frames without times.
        digest: SHA-256 of the elements and of the positions in single precision.
        notes: what the reader had to say.
    """

    name: str
    species: IntArray
    bonds: Bonds
    start: FloatArray
    structure: StructureStatistics | CrystalStatistics
    length: float | None
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.structure.frames

    @property
    def is_periodic(self) -> bool:
        """Whether its frames have cells."""
        return isinstance(self.structure, CrystalStatistics)


def collect_statistics(name: str, source: FrameSource) -> ReferenceStatistics:
    """Statistics of a source of frames, in two passes over it.

    Raises:
        DataError: a position is not a finite number, there are no bonds, or the source is damaged.
    """
    start, cell = first_frame(source)
    check = _Checked(name, source.species)
    if cell is None:
        means, sampler = MeanDistances(source.species), ModeSampler(len(source.species))
        for first, positions in source.pieces():
            check.add(positions, first)
            means.add(positions)
            sampler.add(positions, first)
        bonds = means.bonds()
        structure: StructureStatistics | CrystalStatistics = structure_of(
            source, bonds, sampler.modes(), source.frames, start
        )
    else:
        source = unwrapped(source)
        images = ImageBonds(source.species, start, cell)
        for first, positions, cells in source.pieces_with_cells():
            assert cells is not None  # as `unwrapped` sees to
            check.add(positions, first)
            images.add(positions, cells)
        bonds = images.bonds()
        structure = crystal_structure_of(source, bonds, source.frames)
    length = None if source.times is None else float(source.times[-1] - source.times[0])
    return ReferenceStatistics(name, source.species, bonds, start, structure, length, check.digest, source.notes)


class _Checked:
    """Sees that positions are numbers, and tells one reference from another."""

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
