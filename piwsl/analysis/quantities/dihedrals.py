"""Distributions of the dihedrals of a molecule by type."""

from typing import ClassVar

import numpy as np

from piwsl.analysis.quantities.angles import DegreeCounter
from piwsl.analysis.quantity import Frames, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.uncertainty import MicroBlocks
from piwsl.typing import FloatArray, IntArray

DIHEDRAL_BIN = 5.0  # degrees
MOST_WATCHED = 4  # largest number of dihedrals per type used for the correlation time


def dihedral_values(positions: FloatArray, atoms: IntArray) -> FloatArray:
    """Return the dihedrals (frames, k) of quadruples (k, 4), -180 to 180 degrees; 0 is cis (IUPAC convention)."""
    first, axis, last = (positions[:, atoms[:, i + 1]] - positions[:, atoms[:, i]] for i in range(3))
    before, after = np.cross(first, axis), np.cross(axis, last)
    along = np.linalg.norm(axis, axis=-1) * (first * after).sum(-1)
    return np.asarray(np.degrees(np.arctan2(along, (before * after).sum(-1))))


class DihedralCounter(DegreeCounter):
    """Accumulate the dihedrals of one type. The series are sines and cosines of a few of the dihedrals.

    Args:
        count: Number of dihedrals of this type in the structure.
        blocks: Blocks of the trajectory.
    """

    def __init__(self, count: int, blocks: MicroBlocks) -> None:
        self._watched = np.unique(np.linspace(0, count - 1, min(count, MOST_WATCHED)).astype(np.int64))
        super().__init__(-180.0, 180.0, DIHEDRAL_BIN, blocks, 2 * len(self._watched))

    def add(self, values: FloatArray, first: int) -> None:
        """Add dihedrals (f, k), degrees, of the frames from ``first`` on."""
        watched = np.radians(values[:, self._watched])
        self.series.add(np.concatenate([np.sin(watched), np.cos(watched)], axis=1), first)
        self.count(values, first)


class DihedralCollector:
    """Collect dihedrals by type.

    Args:
        atoms: Quadruples (k, 4) of atoms by type.
        frames: Number of frames in the trajectory.
    """

    def __init__(self, atoms: dict[str, IntArray], frames: int) -> None:
        blocks = MicroBlocks(frames)
        self._atoms = atoms
        self._counters = {kind: DihedralCounter(len(quadruples), blocks) for kind, quadruples in atoms.items()}

    def add(self, frames: Frames) -> None:
        """Add the next piece."""
        for kind, quadruples in self._atoms.items():
            self._counters[kind].add(dihedral_values(frames.positions, quadruples), frames.first)

    def statistics(self) -> dict[str, Histogram]:
        """Return histograms by type, in blocks of several correlation times."""
        return {kind: counter.histogram() for kind, counter in self._counters.items()}


class Dihedrals(Quantity[dict[str, Histogram]]):
    """Dihedrals of a molecule."""

    key = "dihedrals"
    statistics = dict[str, Histogram]
    absent: ClassVar = {"dihedrals": {}}

    def collector(self, sample: Sample) -> DihedralCollector:
        """Return a collector of all dihedrals."""
        return DihedralCollector(sample.graph.dihedrals(), sample.frames)

    def compare(
        self, run: dict[str, Histogram], reference: dict[str, Histogram] | None, sample: Sample
    ) -> QuantityComparison[dict[str, DistributionComparison]]:
        """Compare the distributions of each type."""
        assert reference is not None
        dihedrals = {kind: compare(histogram, reference[kind]) for kind, histogram in run.items()}
        rows = [
            Observable(f"dihedral.{kind}.distribution", f"{kind} dihedral, distribution", difference=entry.difference)
            for kind, entry in dihedrals.items()
        ]
        plain = {"dihedrals": {kind: entry.as_dict() for kind, entry in dihedrals.items()}}
        return QuantityComparison(self.key, dihedrals, rows, plain=plain)
