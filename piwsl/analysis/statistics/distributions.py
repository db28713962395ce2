"""Normalized histograms with error bands, and the distance between two of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from piwsl.analysis.statistics.results import Difference, Distribution, Measurement
from piwsl.analysis.statistics.uncertainty import CONFIDENCE, BlockSums, Statistic, half_scale
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in equal bins, separately for each block.

    Attributes:
        edges: Equally spaced bin edges (bins + 1,).
        blocks: Counts (blocks, bins).
        beyond: Number of values outside the edges.
        unit: Unit of the edges.
    """

    edges: FloatArray
    blocks: BlockSums
    beyond: int
    unit: str

    @property
    def area_unit(self) -> str:
        """Unit of an area under the density: empty, for a dimensionless number."""
        return ""

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(self.edges[1] - self.edges[0])

    def density(self, counts: FloatArray) -> FloatArray:
        """Normalize counts (..., bins) to the integral 1."""
        total = counts.sum(axis=-1, keepdims=True)
        return np.asarray(counts / (np.maximum(total, 1.0) * self.width))

    def distribution(self) -> Distribution:
        """Return the density with the standard error of each bin."""
        error = self.blocks.deviations(self.density).std(axis=0) if self.blocks.has_error else None
        total = self.blocks.total
        inside = float(total.sum())
        beyond = self.beyond / max(inside + self.beyond, 1.0)
        return Distribution(self.edges, self.density(total), error, self.unit, self.blocks.samples, beyond)


@dataclass(frozen=True, eq=False)
class DistributionComparison:
    """Comparison of the distributions of a quantity in run and reference.

    Attributes:
        run, reference: Distributions with the same edges.
        difference: Integral of |p - p_ref|: 0 for equal, 2 for disjoint distributions.
        wasserstein: First Wasserstein distance, the integral of |F - F_ref| over the cumulative distributions, in the
            unit of the edges.
    """

    run: Distribution
    reference: Distribution
    difference: Difference
    wasserstein: Difference

    @property
    def overlap(self) -> Measurement:
        """Integral of min(p, p_ref): 1 for equal, 0 for disjoint distributions."""
        measured = self.difference.measured
        error = None if measured.uncertainty is None else measured.uncertainty / 2
        return Measurement(1 - measured.value / 2, error, "", measured.samples)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "difference": self.difference.as_dict(),
            "wasserstein": self.wasserstein.as_dict(),
            "overlap": self.overlap.as_dict(),
            "run": self.run.as_dict(),
            "reference": self.reference.as_dict(),
        }


def compare(run: Histogram, reference: Histogram) -> DistributionComparison:
    """Compare two distributions by the integral of |p - p_ref| and by the first Wasserstein distance.

    Each has an error, a noise limit, and a floor from the two halves of the reference. Even two samples of the same
    distribution differ. The expected difference is estimated by a bootstrap over the blocks of run and reference, each
    relative to its own mean. Frame intervals and lengths are arbitrary.
    """
    run_distribution, reference_distribution = run.distribution(), reference.distribution()
    noise = None
    if run.blocks.has_error and reference.blocks.has_error:
        noise = run.blocks.deviations(run.density, stream=1) - reference.blocks.deviations(reference.density, stream=2)
    halves = reference.blocks.halves()
    halved = None
    if halves is not None:
        first, second = (reference.density(half) for half in halves)
        halved = (first - second, half_scale(run_distribution.samples, reference_distribution.samples))
    gap = run_distribution.density - reference_distribution.density
    samples = min(run_distribution.samples, reference_distribution.samples)
    width = run.width

    def area(gaps: FloatArray) -> FloatArray:
        return np.asarray(np.abs(gaps).sum(axis=-1) * width)

    def moved(gaps: FloatArray) -> FloatArray:
        return np.asarray(np.abs(np.cumsum(gaps, axis=-1)).sum(axis=-1) * width**2)

    def difference(distance: Statistic, unit: str) -> Difference:
        error = limit = floor = None
        if noise is not None:
            limit = float(np.quantile(distance(noise), CONFIDENCE))
            error = float(np.std(distance(gap + noise)))
        if halved is not None:
            floor = float(distance(halved[0])) * halved[1]
        decides = run.blocks.decides and reference.blocks.decides
        return Difference(Measurement(float(distance(gap)), error, unit, samples), limit, floor, decides)

    return DistributionComparison(
        run_distribution, reference_distribution, difference(area, run.area_unit), difference(moved, run.unit)
    )
