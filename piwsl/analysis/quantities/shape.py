"""The shape of a molecule as it moves: distance from a structure, radius of gyration, flatness of rings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums, MicroBlocks, difference_of
from piwsl.typing import FloatArray, IntArray
from piwsl.units import PICOSECOND

MOST_POINTS = 2000  # of a curve against time
ROUNDING = 1e-5  # relative, of volumes: files keep seven digits of lengths
RMSD, GYRATION = "RMSD", "radius of gyration"


def rmsd(positions: FloatArray, structure: FloatArray, masses: FloatArray) -> FloatArray:
    """Root mean square distance (frames,) from a structure (atoms, 3), superposed, weighted by mass, angstrom.

    Kabsch, Acta Cryst. A 32, 922 (1976): the singular values of the covariance give it without the rotation.
    """
    weights = masses / masses.sum()
    ours = positions - np.einsum("i,fij->fj", weights, positions)[:, None]
    theirs = structure - weights @ structure
    covariance = np.einsum("i,fia,ib->fab", weights, ours, theirs)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.sign(np.linalg.det(covariance))  # a rotation, and no reflection
    square = np.einsum("i,fij,fij->f", weights, ours, ours) + np.einsum("i,ij,ij", weights, theirs, theirs)
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
        sums: number of frames and sum of the values, by name.
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
        rings: atoms of each.
        frames: how many will come.
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

    def add(self, positions: FloatArray, first: int) -> None:
        """Positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        exact = np.asarray(positions, dtype=np.float64)
        found = {
            RMSD: rmsd(exact, self._structure, self._masses),
            GYRATION: gyration_radius(exact, self._masses),
            **{name: ring_planarity(exact, ring) for name, ring in self._rings.items()},
        }
        start = -first % self._thinning
        self._places.append(np.arange(first + start, first + len(exact), self._thinning))
        for name, values in found.items():
            self._blocks.add(self._sums[name], np.stack([np.ones_like(values), values], axis=1), first)
            self._memory[name].add(values[:, None], first)
            self._points[name].append(values[start :: self._thinning].copy())  # and not the whole piece

    def statistics(self) -> ShapeStatistics:
        """In blocks of several times the correlation of each."""
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
    """Means over the frames of each."""
    return tuple(
        ShapeComparison(
            name,
            one.measure(_mean, "angstrom"),
            reference.sums[name].measure(_mean, "angstrom"),
            difference_of(one, reference.sums[name], _mean, "angstrom"),
        )
        for name, one in run.sums.items()
    )


def compare_volumes(run: BlockSums, reference: BlockSums) -> ShapeComparison:
    """Volume per atom of a periodic cell, from numbers of frames and sums, angstrom^3."""
    unit = "angstrom^3"
    ours, theirs = run.measure(_mean, unit), reference.measure(_mean, unit)
    found = difference_of(run, reference, _mean, unit)
    if found.limit is not None:  # cells that stay as they are have no noise, but files round them
        found = replace(found, limit=max(found.limit, ROUNDING * theirs.value))
    return ShapeComparison("volume per atom", ours, theirs, found)


def rmsd_curve(run: ShapeStatistics, times: FloatArray) -> CurveComparison:
    """Distance from the first structure of the reference against time; ``times`` (frames,) are those of the run, fs."""
    values = run.series[RMSD]
    curve = Curve(times[run.frames] / PICOSECOND, values, None, None, run.sums[RMSD].samples)
    axes = Axis("Time", "ps"), Axis("RMSD, weighted by mass", "Å")
    note = "from the first structure of the reference, superposed"
    return CurveComparison("rmsd", "Distance from a structure", *axes, curve, notes=(note,))


def _mean(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 1] / sums[..., 0])
