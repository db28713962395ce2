"""Quantities that are one number per frame: their mean, and their distribution."""

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
    """One number per frame, block by block.

    Attributes:
        sums: Number of frames and sum of the values.
        histogram: Of the values, where the quantity has edges.
    """

    sums: BlockSums
    histogram: Histogram | None

    def mean(self, unit: str) -> Measurement:
        """Mean over the frames."""
        return self.sums.measure(mean_of_sums, unit)


@dataclass(frozen=True, eq=False)
class ScalarComparison:
    """Mean and distribution of a number per frame, of run and reference.

    Attributes:
        mean, reference_mean, difference: In the unit of the quantity.
        distribution: Where the quantity has edges.
    """

    mean: Measurement
    reference_mean: Measurement | None
    difference: Difference | None
    distribution: DistributionComparison | None


class ScalarQuantity(Quantity[ScalarStatistics]):
    """A number per frame. Derive from it, set the attributes, and implement `values`.

    Attributes:
        key: Unique; also the key of the table's first row.
        title: For people, such as ``End-to-end distance``.
        unit: Of the values, such as ``angstrom``.
        edges: (bins + 1,) equally spaced edges of a histogram of the values; None: only the mean is compared.
    """

    statistics = ScalarStatistics
    needs_reference = False
    title: ClassVar[str]
    unit: ClassVar[str] = ""
    edges: ClassVar[FloatArray | None] = None

    @abstractmethod
    def values(self, frames: Frames, sample: Sample) -> FloatArray:
        """Return the value (f,) of each frame of a piece.

        Args:
            frames: Positions (f, atoms, 3) in angstrom, cells, and bond lengths.
            sample: The trajectory: elements, masses, bonds, first frame of the reference.
        """

    def applies(self, sample: Sample) -> bool:
        """Return whether the quantity is defined for a trajectory; by default always."""
        return True

    def collector(self, sample: Sample) -> "ScalarCollector | None":
        """Return a collector of the values, where the quantity applies."""
        return ScalarCollector(self, sample) if self.applies(sample) else None

    def compare(
        self, run: ScalarStatistics, reference: ScalarStatistics | None, sample: Sample
    ) -> QuantityComparison[ScalarComparison]:
        """Compare means, and distributions where there are edges."""
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
    """Collects the values of a `ScalarQuantity` over frames that come in pieces."""

    def __init__(self, quantity: ScalarQuantity, sample: Sample) -> None:
        self._quantity, self._sample = quantity, sample
        self._blocks = MicroBlocks(sample.frames)
        self._sums = np.zeros((len(self._blocks), 2))
        self._series = SeriesMeans(sample.frames, 1)
        bins = 0 if quantity.edges is None else len(quantity.edges) - 1
        self._counts = np.zeros((len(self._blocks), bins + 2), dtype=np.int64)  # one bin more at both ends

    def add(self, frames: Frames) -> None:
        """Take the next piece."""
        values = np.asarray(self._quantity.values(frames, self._sample), dtype=np.float64)
        if values.shape != (len(frames),):
            raise ConfigError(
                f"quantity {self._quantity.key!r}: values of shape {values.shape} for {len(frames)} frames: "
                "return one number for each frame"
            )
        self._series.add(values[:, None], frames.first)
        self._blocks.add(self._sums, np.stack([np.ones_like(values), values], axis=1), frames.first)
        if self._quantity.edges is not None:
            bins = np.searchsorted(self._quantity.edges, values, side="right")
            for block, start, stop in self._blocks.parts(frames.first, len(values)):
                self._counts[block] += np.bincount(bins[start:stop], minlength=self._counts.shape[1])

    def statistics(self) -> ScalarStatistics:
        """Return sums and counts in blocks of several times the correlation of the values."""
        per_sample = self._series.inefficiency()
        histogram = None
        if self._quantity.edges is not None:
            beyond = int(self._counts[:, [0, -1]].sum())
            counts = self._blocks.merged(self._counts[:, 1:-1], per_sample)
            histogram = Histogram(np.asarray(self._quantity.edges), counts, beyond, self._quantity.unit)
        return ScalarStatistics(self._blocks.merged(self._sums, per_sample), histogram)


def mean_of_sums(sums: FloatArray) -> FloatArray:
    """Return the mean of sums (..., 2) of ones and of values."""
    return np.asarray(sums[..., 1] / sums[..., 0])
