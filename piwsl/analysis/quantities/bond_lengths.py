"""Bond lengths by pair of elements: means, widths and distributions."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from piwsl.analysis.quantity import FigureText, Frames, Observable, Panel, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums, MicroBlocks, difference_of
from piwsl.structures.bonds import Bonds
from piwsl.typing import FloatArray, IntArray

BIN_WIDTH = 0.01  # angstrom


@dataclass(frozen=True, eq=False)
class BondLengths:
    """Bond lengths of one type in run and reference.

    Attributes:
        kind: Type of the bonds, such as ``C-H``.
        count: Number of bonds of this type in the molecule.
        mean, width: Mean length and standard deviation in run and reference, angstrom.
        mean_difference, width_difference: Differences, run minus reference, angstrom.
        distribution: Distribution of the lengths of all bonds of the type.
    """

    kind: str
    count: int
    mean: Measurement
    reference_mean: Measurement
    mean_difference: Difference
    width: Measurement
    reference_width: Measurement
    width_difference: Difference
    distribution: DistributionComparison

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "bonds": self.count,
            "mean": {
                "run": self.mean.as_dict(),
                "reference": self.reference_mean.as_dict(),
                "difference": self.mean_difference.as_dict(),
            },
            "width": {
                "run": self.width.as_dict(),
                "reference": self.reference_width.as_dict(),
                "difference": self.width_difference.as_dict(),
            },
            "distribution": self.distribution.as_dict(),
        }


@dataclass(frozen=True, eq=False)
class BondStatistics:
    """Bond lengths of one type in one trajectory, block by block.

    Attributes:
        count: Number of bonds of this type in the molecule.
        center: Length subtracted before the moments are computed, angstrom.
        moments: Number, sum and sum of squares of the lengths minus the center.
        histogram: Histogram of the lengths.
    """

    count: int
    center: float
    moments: BlockSums
    histogram: Histogram


class BondCounter:
    """Accumulate bond lengths from pieces of a trajectory.

    Args:
        bonds: Bonds of the reference, which determine the edges of the histograms.
        frames: Number of frames in the trajectory.
    """

    def __init__(self, bonds: Bonds, frames: int) -> None:
        self._blocks = MicroBlocks(frames)
        self._types = {kind: _TypeCounter(bonds.lengths[at], at, self._blocks) for kind, at in bonds.by_type().items()}

    def add(self, frames: Frames) -> None:
        """Add the bond lengths of the next piece."""
        lengths = np.asarray(frames.bond_lengths, dtype=np.float64)
        for counter in self._types.values():
            counter.add(lengths, frames.first)

    def statistics(self) -> dict[str, BondStatistics]:
        """Return statistics by type, in blocks of several correlation times."""
        return {kind: counter.statistics() for kind, counter in self._types.items()}


class _TypeCounter:
    """Accumulate moments and histogram of one type of bonds."""

    def __init__(self, lengths: FloatArray, chosen: IntArray, blocks: MicroBlocks) -> None:
        low, high = float(lengths.min()) - 0.5, float(lengths.max()) + 0.5
        self._first_bin = int(np.floor(low / BIN_WIDTH))
        self._edges = np.arange(self._first_bin, np.ceil(high / BIN_WIDTH) + 1) * BIN_WIDTH
        self._center = float(lengths.mean())
        self._chosen, self._blocks = chosen, blocks
        self._moments = np.zeros((len(blocks), 3))
        self._counts = np.zeros((len(blocks), len(self._edges) + 1), dtype=np.int64)  # one extra bin at both ends
        self._series = SeriesMeans(blocks.frames, 2)

    def add(self, lengths: FloatArray, first: int) -> None:
        chosen = lengths[:, self._chosen]
        shifted = chosen - self._center
        sums = np.stack([shifted.sum(axis=1), (shifted**2).sum(axis=1)], axis=1)
        self._series.add(sums, first)
        number = np.full((len(chosen), 1), float(len(self._chosen)))
        self._blocks.add(self._moments, np.concatenate([number, sums], axis=1), first)
        places = np.clip(np.searchsorted(self._edges, chosen, side="right"), 0, len(self._edges))
        for block, start, stop in self._blocks.parts(first, len(chosen)):
            self._counts[block] += np.bincount(places[start:stop].ravel(), minlength=self._counts.shape[1])

    def statistics(self) -> BondStatistics:
        per_sample = self._series.inefficiency()
        counts = self._blocks.merged(self._counts[:, 1:-1], per_sample)
        beyond = int(self._counts[:, [0, -1]].sum())
        histogram = Histogram(self._edges, counts, beyond, "angstrom")
        moments = self._blocks.merged(self._moments, per_sample)
        return BondStatistics(len(self._chosen), self._center, moments, histogram)


def bond_statistics(positions: FloatArray, bonds: Bonds) -> dict[str, BondStatistics]:
    """Return the statistics of bond lengths by type for frames in memory (frames, atoms, 3), angstrom."""
    counter = BondCounter(bonds, len(positions))
    counter.add(Frames(0, positions, None, bonds))
    return counter.statistics()


def compare_bonds(run: FloatArray, reference: FloatArray, bonds: Bonds) -> tuple[BondLengths, ...]:
    """Compare bond lengths by type for frames in memory.

    Args:
        run: Stable frames of the run (frames, atoms, 3), angstrom.
        reference: Frames of the reference (frames, atoms, 3), angstrom.
        bonds: Bonds of the reference.
    """
    return compare_bond_statistics(bond_statistics(run, bonds), bond_statistics(reference, bonds))


def compare_bond_statistics(
    run: dict[str, BondStatistics], reference: dict[str, BondStatistics]
) -> tuple[BondLengths, ...]:
    """Compare bond lengths by type."""
    return tuple(_compare_type(kind, run[kind], reference[kind]) for kind in run)


def _compare_type(kind: str, run: BondStatistics, reference: BondStatistics) -> BondLengths:
    center = reference.center

    def mean(sums: FloatArray) -> FloatArray:
        return np.asarray(center + sums[..., 1] / sums[..., 0])

    return BondLengths(
        kind=kind,
        count=run.count,
        mean=run.moments.measure(mean, "angstrom"),
        reference_mean=reference.moments.measure(mean, "angstrom"),
        mean_difference=difference_of(run.moments, reference.moments, mean, "angstrom"),
        width=run.moments.measure(_width, "angstrom"),
        reference_width=reference.moments.measure(_width, "angstrom"),
        width_difference=difference_of(run.moments, reference.moments, _width, "angstrom"),
        distribution=compare(run.histogram, reference.histogram),
    )


def _width(sums: FloatArray) -> FloatArray:
    mean = sums[..., 1] / sums[..., 0]
    return np.asarray(np.sqrt(np.maximum(sums[..., 2] / sums[..., 0] - mean**2, 0.0)))


FIGURE = FigureText(
    "Bond lengths",
    "bond_lengths",
    "All bonds of each type are pooled, and every area is 1. An overlap of 1 means equal distributions; the band "
    "around the line is its 95 % interval.",
    "All bonds of each type are pooled, and every area is 1. The bands around the lines are their 95 % intervals.",
)


class BondLengthsByType(Quantity[dict[str, BondStatistics]]):
    """Bond lengths of a molecule or of a periodic cell."""

    key = "bonds"
    statistics = dict[str, BondStatistics]
    absent: ClassVar = {"bonds": {}}

    def collector(self, sample: Sample) -> BondCounter:
        """Return a collector of bond lengths."""
        return BondCounter(sample.bonds, sample.frames)

    def compare(
        self, run: dict[str, BondStatistics], reference: dict[str, BondStatistics] | None, sample: Sample
    ) -> QuantityComparison[tuple[BondLengths, ...]]:
        """Compare the bonds of each type."""
        assert reference is not None
        bonds = compare_bond_statistics(run, reference)
        notes = []
        if not reference:
            name = sample.reference_name
            notes.append(f"no bonds in the cell of {name}: if bonds are expected, check the unit of the positions")
        return QuantityComparison(
            self.key,
            bonds,
            [row for bond in bonds for row in _rows(bond)],
            panels=[Panel(f"bond.{bond.kind}", bond.kind, bond.distribution, "Bond length") for bond in bonds],
            plain={"bonds": {bond.kind: bond.as_dict() for bond in bonds}},
            notes=notes,
            figures={"bond": FIGURE},
        )


def _rows(bond: BondLengths) -> list[Observable]:
    key, name, lengths = f"bond.{bond.kind}", bond.kind, bond.distribution
    return [
        Observable(f"{key}.mean", f"{name} length", bond.mean, bond.reference_mean, bond.mean_difference),
        Observable(f"{key}.width", f"{name} width", bond.width, bond.reference_width, bond.width_difference),
        Observable(f"{key}.distribution", f"{name} distribution", difference=lengths.difference),
        Observable(f"{key}.wasserstein", f"{name} distribution, Wasserstein", difference=lengths.wasserstein),
    ]
