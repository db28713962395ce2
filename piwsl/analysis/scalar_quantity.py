"""Quantities with one number per frame: means and distributions."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from piwsl.analysis.quantity import Frames, Observable, Panel, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums, MicroBlocks, difference_of
from piwsl.errors import ConfigError
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class ScalarStatistics:
    """Statistics of one number per frame, in blocks.

    Attributes:
        sums: Number of frames and sum of the values in blocks.
        histogram: Histogram of the values, if the quantity has edges.
    """

    sums: BlockSums
    histogram: Histogram | None

    def mean(self, unit: str) -> Measurement:
        """Return the mean over all frames."""
        return self.sums.measure(mean_of_sums, unit)


@dataclass(frozen=True, eq=False)
class ScalarComparison:
    """Comparison of a number per frame between run and reference.

    Attributes:
        mean, reference_mean, difference: Means and their difference, in the unit of the quantity.
        distribution: Comparison of the distributions, if the quantity has edges.
    """

    mean: Measurement
    reference_mean: Measurement | None
    difference: Difference | None
    distribution: DistributionComparison | None


class ScalarQuantity(Quantity[ScalarStatistics]):
    """Base class of quantities with one number per frame. Subclasses set the attributes and implement `values`.

    Attributes:
        key: Unique key, also used for the first row in the table.
        title: Display name, such as ``End-to-end distance``.
        unit: Unit of the values, such as ``angstrom``.
        edges: Equally spaced bin edges (bins + 1,) of a histogram of the values; None to compare only means.
    """

    statistics = ScalarStatistics
    needs_reference = False
    title: ClassVar[str]
    unit: ClassVar[str] = ""
    edges: ClassVar[FloatArray | None] = None

    @abstractmethod
    def values(self, frames: Frames, sample: Sample) -> FloatArray:
        """Return the values (f,) for the frames of a piece.

        Args:
            frames: Piece with positions (f, atoms, 3) in angstrom, cells, and bond lengths.
            sample: Trajectory with elements, masses, bonds, and the first frame of the reference.
        """

    def applies(self, sample: Sample) -> bool:
        """Return whether the quantity is defined for a trajectory; True by default."""
        return True

    def collector(self, sample: Sample) -> "ScalarCollector | None":
        """Return a collector of the values; None if the quantity does not apply."""
        return ScalarCollector(self, sample) if self.applies(sample) else None

    def compare(
        self, run: ScalarStatistics, reference: ScalarStatistics | None, sample: Sample
    ) -> QuantityComparison[ScalarComparison]:
        """Compare the means and, if there are edges, the distributions."""
        mean = run.mean(self.unit)
        reference_mean = difference = distribution = None
        if reference is not None:
            reference_mean = reference.mean(self.unit)
            difference = difference_of(run.sums, reference.sums, mean_of_sums, self.unit)
            if run.histogram is not None and reference.histogram is not None:
                distribution = compare(run.histogram, reference.histogram)
        rows = [Observable(self.key, self.title, mean, reference_mean, difference)]
        panels = []
        if distribution is not None:
            name = f"{self.title}, distribution"
            rows.append(Observable(f"{self.key}.distribution", name, difference=distribution.difference))
            panels.append(Panel(self.key, self.title, distribution, self.title))
        details = ScalarComparison(mean, reference_mean, difference, distribution)
        return QuantityComparison(self.key, details, rows, panels=panels)


class ScalarCollector:
    """Accumulate the values of a `ScalarQuantity` from pieces of a trajectory."""

    def __init__(self, quantity: ScalarQuantity, sample: Sample) -> None:
        self._quantity, self._sample = quantity, sample
        self._blocks = MicroBlocks(sample.frames)
        self._sums = np.zeros((len(self._blocks), 2))
        self._series = SeriesMeans(sample.frames, 1)
        bins = 0 if quantity.edges is None else len(quantity.edges) - 1
        self._counts = np.zeros((len(self._blocks), bins + 2), dtype=np.int64)  # one extra bin at both ends

    def add(self, frames: Frames) -> None:
        """Add the next piece."""
        values = np.asarray(self._quantity.values(frames, self._sample), dtype=np.float64)
        if values.shape != (len(frames),):
            raise ConfigError(
                f"quantity {self._quantity.key!r}: values of shape {values.shape} for {len(frames)} frames: "
                "return one number per frame"
            )
        self._series.add(values[:, None], frames.first)
        self._blocks.add(self._sums, np.stack([np.ones_like(values), values], axis=1), frames.first)
        if self._quantity.edges is not None:
            bins = np.searchsorted(self._quantity.edges, values, side="right")
            for block, start, stop in self._blocks.parts(frames.first, len(values)):
                self._counts[block] += np.bincount(bins[start:stop], minlength=self._counts.shape[1])

    def statistics(self) -> ScalarStatistics:
        """Return sums and counts in blocks of several correlation times."""
        per_sample = self._series.inefficiency()
        histogram = None
        if self._quantity.edges is not None:
            beyond = int(self._counts[:, [0, -1]].sum())
            counts = self._blocks.merged(self._counts[:, 1:-1], per_sample)
            histogram = Histogram(np.asarray(self._quantity.edges), counts, beyond, self._quantity.unit)
        return ScalarStatistics(self._blocks.merged(self._sums, per_sample), histogram)


def mean_of_sums(sums: FloatArray) -> FloatArray:
    """Return the mean from sums (..., 2) of ones and values."""
    return np.asarray(sums[..., 1] / sums[..., 0])
