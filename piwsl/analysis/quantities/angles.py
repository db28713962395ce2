"""Angles between bonds: means, widths and distributions by type."""

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase.data import chemical_symbols

from piwsl.analysis.quantity import FigureText, Frames, Observable, Panel, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import MicroBlocks, Statistic, difference_of
from piwsl.structures.bonds import Bonds
from piwsl.structures.metals import are_chemical
from piwsl.typing import FloatArray, IntArray

ANGLE_BIN = 1.0  # degrees
DEGREE = "degree"


def angle_values(positions: FloatArray, atoms: IntArray) -> FloatArray:
    """Return the angles (frames, k) at the middle atoms of triples (k, 3), degrees."""
    middle = positions[:, atoms[:, 1]]
    return angles_between(positions[:, atoms[:, 0]] - middle, positions[:, atoms[:, 2]] - middle)


def angles_between(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the angles (...) between vectors (..., 3), degrees."""
    across = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, (first * second).sum(-1))))


class DegreeCounter:
    """Accumulate a histogram in degrees, and the series that determine its correlation time.

    Args:
        low, high, width: Lower edge, upper edge and bin width, degrees.
        blocks: Blocks of the trajectory.
        columns: Number of series.
    """

    def __init__(self, low: float, high: float, width: float, blocks: MicroBlocks, columns: int) -> None:
        self._edges = np.linspace(low, high, round((high - low) / width) + 1)
        self._blocks = blocks
        self._counts = np.zeros((len(blocks), len(self._edges) - 1), dtype=np.int64)
        self.series = SeriesMeans(blocks.frames, columns)

    def histogram(self) -> Histogram:
        """Return the histogram in blocks of several times the longest correlation time."""
        counts = self._blocks.merged(self._counts, self.series.inefficiency())
        return Histogram(self._edges, counts, 0, DEGREE)

    def count(self, values: FloatArray, first: int) -> None:
        """Count values (f, k), degrees, of the frames from ``first`` on."""
        width = self._edges[1] - self._edges[0]
        places = ((values - self._edges[0]) / width).astype(np.int64).clip(0, len(self._edges) - 2)
        for block, start, stop in self._blocks.parts(first, len(values)):
            self._counts[block] += np.bincount(places[start:stop].ravel(), minlength=self._counts.shape[1])


class AngleCounter(DegreeCounter):
    """Accumulate the angles of one type. Their sums form the series that determines the correlation time.

    Args:
        blocks: Blocks of the trajectory.
    """

    def __init__(self, blocks: MicroBlocks) -> None:
        super().__init__(0.0, 180.0, ANGLE_BIN, blocks, 2)

    def add(self, values: FloatArray, first: int) -> None:
        """Add angles (f, k), degrees, of the frames from ``first`` on."""
        radians = np.radians(values)
        self.series.add(np.stack([radians.sum(1), (radians**2).sum(1)], axis=1), first)
        self.count(values, first)


class MoleculeAngles:
    """Collect the angles of a molecule by type.

    Args:
        sample: Trajectory to be measured.
    """

    def __init__(self, sample: Sample) -> None:
        blocks = MicroBlocks(sample.frames)
        self._atoms = sample.graph.angles()
        self._counters = {kind: AngleCounter(blocks) for kind in self._atoms}

    def add(self, frames: Frames) -> None:
        """Add the next piece."""
        for kind, atoms in self._atoms.items():
            self._counters[kind].add(angle_values(frames.positions, atoms), frames.first)

    def statistics(self) -> dict[str, Histogram]:
        """Return one histogram per angle type, with blocks several correlation times long."""
        return {kind: counter.histogram() for kind, counter in self._counters.items()}


class CellAngles:
    """Collect the angles between the bonds of a periodic cell by type.

    Args:
        sample: Trajectory to be measured.
    """

    def __init__(self, sample: Sample) -> None:
        blocks = MicroBlocks(sample.frames)
        self._arms = Arms(sample.species, sample.bonds)
        self._counters = {kind: AngleCounter(blocks) for kind in self._arms.pairs}

    def add(self, frames: Frames) -> None:
        """Add the next piece."""
        for kind, counter in self._counters.items():
            counter.add(self._arms.angles(frames.bond_vectors, kind), frames.first)

    def statistics(self) -> dict[str, Histogram]:
        """Return one histogram per angle type, with blocks several correlation times long."""
        return {kind: counter.histogram() for kind, counter in self._counters.items()}


class Arms:
    """Angles between the bonds of each atom, by type.

    Args:
        species: Atomic numbers (atoms,).
        bonds: Bonds with periodic images; bonds of metals only to other metals.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        chemical = are_chemical(species, bonds.pairs)
        ends: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # by atom: bond, direction, other atom
        for bond, (i, j) in enumerate(bonds.pairs):
            if chemical[bond]:
                ends[int(i)].append((bond, 1, int(j)))
                ends[int(j)].append((bond, -1, int(i)))
        pairs: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        symbols = [chemical_symbols[int(number)] for number in species]
        for middle, arms in ends.items():
            for place, (bond, sign, first) in enumerate(arms):
                for other, other_sign, last in arms[place + 1 :]:
                    low, high = sorted((symbols[first], symbols[last]))
                    pairs[f"{low}-{symbols[middle]}-{high}"].append((bond, sign, other, other_sign))
        self.pairs = {kind: np.array(rows, dtype=np.int64) for kind, rows in sorted(pairs.items())}

    def angles(self, vectors: FloatArray, kind: str) -> FloatArray:
        """Return the angles (f, k) of a type from bond vectors (f, bonds, 3), degrees."""
        bond, sign, other, other_sign = self.pairs[kind].T
        return angles_between(sign[:, None] * vectors[:, bond], other_sign[:, None] * vectors[:, other])


@dataclass(frozen=True, eq=False)
class AngleComparison:
    """Angles of one type in run and reference.

    Attributes:
        mean, width: Mean and standard deviation, each for the run, for the reference, and as a difference, degrees.
        distribution: Distribution of all angles of the type.
    """

    mean: tuple[Measurement, Measurement, Difference]
    width: tuple[Measurement, Measurement, Difference]
    distribution: DistributionComparison


def compare_angles(run: Histogram, reference: Histogram) -> AngleComparison:
    """Compare mean, width and distribution of the angles of one type."""
    centers = (run.edges[1:] + run.edges[:-1]) / 2

    def mean(counts: FloatArray) -> FloatArray:
        return np.asarray(counts @ centers / counts.sum(-1))

    def width(counts: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(np.maximum(counts @ centers**2 / counts.sum(-1) - mean(counts) ** 2, 0.0)))

    def both(statistic: Statistic) -> tuple[Measurement, Measurement, Difference]:
        measured = (side.blocks.measure(statistic, DEGREE) for side in (run, reference))
        return *measured, difference_of(run.blocks, reference.blocks, statistic, DEGREE)  # type: ignore[return-value]  # mypy loses the lengths of tuples

    return AngleComparison(both(mean), both(width), compare(run, reference))


class Angles(Quantity[dict[str, Histogram]]):
    """Angles of a molecule or of a periodic cell."""

    key = "angles"
    statistics = dict[str, Histogram]
    absent: ClassVar = {"angles": {}}

    def collector(self, sample: Sample) -> MoleculeAngles | CellAngles:
        """Return a collector for a molecule or for a cell."""
        return MoleculeAngles(sample) if sample.cell is None else CellAngles(sample)

    def compare(
        self, run: dict[str, Histogram], reference: dict[str, Histogram] | None, sample: Sample
    ) -> QuantityComparison[dict[str, AngleComparison]]:
        """Compare the angles of each type."""
        assert reference is not None
        angles = {kind: compare_angles(histogram, reference[kind]) for kind, histogram in run.items()}
        rows = []
        for kind, angle in angles.items():
            distribution = angle.distribution.difference
            rows += [
                Observable(f"angle.{kind}.mean", f"{kind} angle", *angle.mean),
                Observable(f"angle.{kind}.width", f"{kind} angle, width", *angle.width),
                Observable(f"angle.{kind}.distribution", f"{kind} angle, distribution", difference=distribution),
            ]
        return QuantityComparison(
            self.key,
            angles,
            rows,
            panels=[Panel(f"angle.{kind}", kind, angle.distribution, "Angle") for kind, angle in angles.items()],
            plain={"angles": {kind: angle.distribution.as_dict() for kind, angle in angles.items()}},
            figures={"angle": FigureText("Bond angles")},
        )
