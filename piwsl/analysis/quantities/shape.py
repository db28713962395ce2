"""Shape of a molecule as it moves: RMSD from a structure, radius of gyration, planarity of rings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from piwsl.analysis.quantity import Frames, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.scalar_quantity import mean_of_sums
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums, MicroBlocks, difference_of
from piwsl.typing import FloatArray, IntArray
from piwsl.units import PICOSECOND

MOST_POINTS = 2000  # of a curve against time
RMSD, GYRATION = "RMSD", "radius of gyration"


def rmsd(positions: FloatArray, structure: FloatArray, masses: FloatArray) -> FloatArray:
    """Root mean square distance (frames,) from a structure (atoms, 3), superposed, weighted by mass, angstrom.

    Kabsch, Acta Cryst. A 32, 922 (1976): the singular values of the covariance give it without the rotation.
    """
    weights = masses / masses.sum()
    centered = positions - np.einsum("i,fij->fj", weights, positions)[:, None]
    centered_structure = structure - weights @ structure
    covariance = np.einsum("i,fia,ib->fab", weights, centered, centered_structure)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.sign(np.linalg.det(covariance))  # a rotation, and no reflection
    square = np.einsum("i,fij,fij->f", weights, centered, centered) + np.einsum(
        "i,ij,ij", weights, centered_structure, centered_structure
    )
    return np.asarray(np.sqrt(np.maximum(square - 2 * values.sum(1), 0.0)))


def gyration_radius(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Radius of gyration (frames,), weighted by mass, angstrom."""
    weights = masses / masses.sum()
    local = positions - np.einsum("i,fij->fj", weights, positions)[:, None]
    return np.asarray(np.sqrt(np.einsum("i,fij,fij->f", weights, local, local)))


def ring_planarity(positions: FloatArray, ring: Sequence[int]) -> FloatArray:
    """Root mean square distance (frames,) of the atoms of a ring from the plane that fits them best, angstrom."""
    local = positions[:, list(ring)]
    local = local - local.mean(1, keepdims=True)
    return np.asarray(np.linalg.svd(local, compute_uv=False)[:, -1] / np.sqrt(len(ring)))


@dataclass(frozen=True, eq=False)
class ShapeStatistics:
    """Means by name, block by block, and thinned series.

    Attributes:
        sums: Number of frames and sum of the values, by name.
        series: (points,) of every so many frames, by name.
        frames: (points,) of the series.
    """

    sums: dict[str, BlockSums]
    series: dict[str, FloatArray]
    frames: IntArray


class ShapeCounter:
    """Collects the shape of frames that come in pieces.

    Args:
        structure: (atoms, 3) angstrom, from which distances are measured.
        masses: (atoms,) amu.
        rings: Atoms of each.
        frames: How many will come.
    """

    def __init__(self, structure: FloatArray, masses: FloatArray, rings: Sequence[Sequence[int]], frames: int) -> None:
        self._structure, self._masses = np.asarray(structure, dtype=np.float64), np.asarray(masses, dtype=np.float64)
        self._rings = {f"planarity of ring {number}": ring for number, ring in enumerate(rings, start=1)}
        self._blocks = MicroBlocks(frames)
        self._names = [RMSD, GYRATION, *self._rings]
        self._sums = {name: np.zeros((len(self._blocks), 2)) for name in self._names}
        self._memory = {name: SeriesMeans(frames, 1) for name in self._names}
        self._thinning = max(-(-frames // MOST_POINTS), 1)
        self._points: dict[str, list[FloatArray]] = {name: [] for name in self._names}
        self._places: list[IntArray] = []

    def add(self, frames: Frames) -> None:
        """Take the next piece."""
        exact, first = np.asarray(frames.positions, dtype=np.float64), frames.first
        shapes = {
            RMSD: rmsd(exact, self._structure, self._masses),
            GYRATION: gyration_radius(exact, self._masses),
            **{name: ring_planarity(exact, ring) for name, ring in self._rings.items()},
        }
        start = -first % self._thinning
        self._places.append(np.arange(first + start, first + len(exact), self._thinning))
        for name, values in shapes.items():
            self._blocks.add(self._sums[name], np.stack([np.ones_like(values), values], axis=1), first)
            self._memory[name].add(values[:, None], first)
            self._points[name].append(values[start :: self._thinning].copy())  # and not the whole piece

    def statistics(self) -> ShapeStatistics:
        """Return means in blocks of several times the correlation of each."""
        return ShapeStatistics(
            {name: self._blocks.merged(self._sums[name], self._memory[name].inefficiency()) for name in self._names},
            {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in self._points.items()},
            np.concatenate(self._places) if self._places else np.zeros(0, dtype=np.int64),
        )


@dataclass(frozen=True)
class ShapeComparison:
    """A mean of the run beside that of the reference."""

    name: str
    mean: Measurement
    reference_mean: Measurement
    difference: Difference


def compare_shapes(run: ShapeStatistics, reference: ShapeStatistics) -> tuple[ShapeComparison, ...]:
    """Compare the means over the frames."""
    return tuple(
        ShapeComparison(
            name,
            sums.measure(mean_of_sums, "angstrom"),
            reference.sums[name].measure(mean_of_sums, "angstrom"),
            difference_of(sums, reference.sums[name], mean_of_sums, "angstrom"),
        )
        for name, sums in run.sums.items()
    )


def rmsd_curve(run: ShapeStatistics, times: FloatArray) -> CurveComparison:
    """Return the distance from the first structure of the reference against the times (frames,) of the run, fs."""
    values = run.series[RMSD]
    curve = Curve(times[run.frames] / PICOSECOND, values, None, None, run.sums[RMSD].samples)
    axes = Axis("Time", "ps"), Axis("RMSD, weighted by mass", "Å")
    note = "from the first structure of the reference, superposed"
    return CurveComparison("rmsd", "Distance from a structure", *axes, curve, notes=(note,))


class Shape(Quantity[ShapeStatistics]):
    """RMSD, radius of gyration, and planarity of rings of a molecule."""

    key = "shape"
    statistics = ShapeStatistics

    def collector(self, sample: Sample) -> ShapeCounter:
        """Return a counter of the shape against the first frame of the reference."""
        return ShapeCounter(sample.start, sample.masses, sample.graph.rings(), sample.frames)

    def compare(
        self, run: ShapeStatistics, reference: ShapeStatistics | None, sample: Sample
    ) -> QuantityComparison[tuple[ShapeComparison, ...]]:
        """Compare the means."""
        assert reference is not None
        shapes = compare_shapes(run, reference)
        rows = []
        for shape in shapes:
            name = shape.name if shape.name.isupper() else shape.name.capitalize()
            key = f"shape.{shape.name.replace(' ', '_')}"
            rows.append(Observable(key, name, shape.mean, shape.reference_mean, shape.difference))
        curves = [] if sample.times is None else [rmsd_curve(run, sample.times)]
        return QuantityComparison(self.key, shapes, rows, curves)

    def save(self, statistics: ShapeStatistics) -> dict[str, Any]:
        """Return the means; the series of a reference are not compared."""
        return super().save(replace(statistics, series={}, frames=statistics.frames[:0]))
