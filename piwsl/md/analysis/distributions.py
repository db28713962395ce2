"""Normalised histograms with error bands, and the distance between two of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from piwsl.md.analysis.results import Difference, Distribution, Measurement
from piwsl.md.analysis.uncertainty import CONFIDENCE, BlockSums, half_scale
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in equal bins, block by block.

    Attributes:
        edges: (bins + 1,), equally spaced.
        blocks: counts of each block (blocks, bins).
        beyond: number of values outside the edges.
        unit: of the edges.
    """

    edges: FloatArray
    blocks: BlockSums
    beyond: int
    unit: str

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(self.edges[1] - self.edges[0])

    def density(self, counts: FloatArray) -> FloatArray:
        """Counts (..., bins) normalised to the integral 1."""
        total = counts.sum(axis=-1, keepdims=True)
        return np.asarray(counts / (np.maximum(total, 1.0) * self.width))

    def distribution(self) -> Distribution:
        """Density with the standard error of each bin."""
        error = self.blocks.deviations(self.density).std(axis=0) if self.blocks.has_error else None
        total = self.blocks.total
        inside = float(total.sum())
        beyond = self.beyond / max(inside + self.beyond, 1.0)
        return Distribution(self.edges, self.density(total), error, self.unit, self.blocks.samples, beyond)


@dataclass(frozen=True, eq=False)
class DistributionComparison:
    """A distribution of the run over that of the reference.

    Attributes:
        run, reference: on the same edges.
        difference: integral of |p - p_ref|: 0 for equal, 2 for disjoint distributions.
    """

    run: Distribution
    reference: Distribution
    difference: Difference

    @property
    def overlap(self) -> Measurement:
        """Integral of min(p, p_ref): 1 for equal, 0 for disjoint distributions."""
        measured = self.difference.measured
        error = None if measured.uncertainty is None else measured.uncertainty / 2
        return Measurement(1 - measured.value / 2, error, "", measured.samples)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "difference": self.difference.as_dict(),
            "overlap": self.overlap.as_dict(),
            "run": self.run.as_dict(),
            "reference": self.reference.as_dict(),
        }


def compare(run: Histogram, reference: Histogram) -> DistributionComparison:
    """Integral of |p - p_ref| with its error, what noise alone gives, and the floor from two halves of the reference.

    Even two samples of one distribution differ. How much is taken from the bootstrap over the blocks of both
    sides, each about its own mean: no assumption on frame intervals or lengths is needed.
    """
    ours, theirs = run.distribution(), reference.distribution()
    gap = ours.density - theirs.density
    value = float(np.abs(gap).sum() * run.width)
    samples = min(ours.samples, theirs.samples)
    error = limit = None
    if run.blocks.has_error and reference.blocks.has_error:
        noise = run.blocks.deviations(run.density, stream=1) - reference.blocks.deviations(reference.density, stream=2)
        limit = float(np.quantile(np.abs(noise).sum(axis=-1) * run.width, CONFIDENCE))
        error = float(np.std(np.abs(gap + noise).sum(axis=-1) * run.width))
    halves = reference.blocks.halves()
    floor = None
    if halves is not None:
        first, second = (reference.density(half) for half in halves)
        floor = float(np.abs(first - second).sum() * reference.width) * half_scale(ours.samples, theirs.samples)
    return DistributionComparison(ours, theirs, Difference(Measurement(value, error, "", samples), limit, floor))
