"""Shape of a molecule during a trajectory: RMSD from a structure, radius of gyration, planarity of rings."""

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

MOST_POINTS = 2000  # largest number of points of a curve as a function of time
RMSD, GYRATION = "RMSD", "radius of gyration"


def rmsd(positions: FloatArray, structure: FloatArray, masses: FloatArray) -> FloatArray:
    """Return the mass-weighted RMSD (frames,) from a structure (atoms, 3) after superposition, angstrom.

    The RMSD follows from the singular values of the covariance, without the rotation (Kabsch, Acta Cryst. A 32, 922
    (1976)).
    """
    weights = masses / masses.sum()
    centered = positions - np.einsum("i,fij->fj", weights, positions)[:, None]
    centered_structure = structure - weights @ structure
    covariance = np.einsum("i,fia,ib->fab", weights, centered, centered_structure)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.sign(np.linalg.det(covariance))  # exclude reflections
    square = np.einsum("i,fij,fij->f", weights, centered, centered) + np.einsum(
        "i,ij,ij", weights, centered_structure, centered_structure
    )
    return np.asarray(np.sqrt(np.maximum(square - 2 * values.sum(1), 0.0)))


def gyration_radius(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Return the mass-weighted radius of gyration (frames,), angstrom."""
    weights = masses / masses.sum()
    local = positions - np.einsum("i,fij->fj", weights, positions)[:, None]
    return np.asarray(np.sqrt(np.einsum("i,fij,fij->f", weights, local, local)))


def ring_planarity(positions: FloatArray, ring: Sequence[int]) -> FloatArray:
    """Return the root mean square distance (frames,) of the atoms in a ring from their best-fit plane, angstrom."""
    local = positions[:, list(ring)]
    local = local - local.mean(1, keepdims=True)
    return np.asarray(np.linalg.svd(local, compute_uv=False)[:, -1] / np.sqrt(len(ring)))


@dataclass(frozen=True, eq=False)
class ShapeStatistics:
    """Means by name in blocks, and thinned series.

    Attributes:
        sums: Number of frames and sum of the values in blocks, by name.
        series: Thinned series (points,) by name.
        frames: Frame indices (points,) of the series.
    """

    sums: dict[str, BlockSums]
    series: dict[str, FloatArray]
    frames: IntArray


class ShapeCounter:
    """Accumulate shape quantities from pieces of a trajectory.

    Args:
        structure: Structure (atoms, 3) for the RMSD, angstrom.
        masses: Masses (atoms,), amu.
        rings: Atom indices of each ring.
        frames: Number of frames in the trajectory.
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
        """Add the next piece."""
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
            # A view would keep the whole piece in memory.
            self._points[name].append(values[start :: self._thinning].copy())

    def statistics(self) -> ShapeStatistics:
        """Return the means in blocks of several correlation times."""
        return ShapeStatistics(
            {name: self._blocks.merged(self._sums[name], self._memory[name].inefficiency()) for name in self._names},
            {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in self._points.items()},
            np.concatenate(self._places) if self._places else np.zeros(0, dtype=np.int64),
        )


@dataclass(frozen=True)
class ShapeComparison:
    """Mean of a shape quantity in run and reference."""

    name: str
    mean: Measurement
    reference_mean: Measurement
    difference: Difference


def compare_shapes(run: ShapeStatistics, reference: ShapeStatistics) -> tuple[ShapeComparison, ...]:
    """Compare the means over all frames."""
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
    """Return the RMSD from the first frame of the reference as a function of the times (frames,) of the run, fs."""
    values = run.series[RMSD]
    curve = Curve(times[run.frames] / PICOSECOND, values, None, None, run.sums[RMSD].samples)
    axes = Axis("Time", "ps"), Axis("RMSD, weighted by mass", "Å")
    note = "relative to the first frame of the reference, after superposition"
    return CurveComparison("rmsd", "Distance from a structure", *axes, curve, notes=(note,))


class Shape(Quantity[ShapeStatistics]):
    """RMSD, radius of gyration, and planarity of rings of a molecule."""

    key = "shape"
    statistics = ShapeStatistics

    def collector(self, sample: Sample) -> ShapeCounter:
        """Return a collector of shape quantities relative to the first frame of the reference."""
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
        """Return the means as named arrays. The series are not saved, because they are not compared."""
        return super().save(replace(statistics, series={}, frames=statistics.frames[:0]))
