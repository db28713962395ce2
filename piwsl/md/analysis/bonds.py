"""Bonds of a molecule, their reference lengths, and bond-length distributions per pair of elements."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

from piwsl.errors import DataError
from piwsl.md.analysis.distributions import DistributionComparison, Histogram, compare
from piwsl.md.analysis.pairs import PairDistances, pair_indices, pair_kind
from piwsl.md.analysis.results import Difference, Measurement
from piwsl.md.analysis.uncertainty import BlockSums, MicroBlocks, SeriesMeans, difference_of
from piwsl.typing import FloatArray, IntArray

# ASE's natural cutoffs are bare sums of covalent radii, which a stretched C-H bond already exceeds.
CUTOFF_SCALE = 1.2
BIN_WIDTH = 0.01  # angstrom


@dataclass(frozen=True, eq=False)
class Bonds:
    """The bonds of a molecule.

    Attributes:
        pairs: (bonds, 2) atom indices, i < j.
        lengths: (bonds,) mean lengths in the reference, angstrom.
        types: (bonds,) names such as ``C-H``.
    """

    pairs: IntArray
    lengths: FloatArray
    types: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def by_type(self) -> dict[str, IntArray]:
        """Indices into ``pairs`` for each bond type, sorted by name."""
        names = np.array(self.types)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


@dataclass(frozen=True, eq=False)
class BondLengths:
    """Bond lengths of one type, run against reference.

    Attributes:
        kind: such as ``C-H``.
        count: number of such bonds in the molecule.
        mean, width: mean length and standard deviation, angstrom; of the run and of the reference.
        mean_difference, width_difference: run minus reference.
        distribution: of all bonds of the type together.
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
        """Plain values for JSON."""
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


def bond_type(first: int, second: int) -> str:
    """``C-H`` for two atomic numbers: carbon first, hydrogen last, else by the alphabet."""
    return pair_kind(first, second)


class MeanDistances:
    """Mean distances of all pairs, of frames that come in pieces.

    Means of distances, not of positions: a molecule that turns has no mean structure. One frame is enough.

    Args:
        species: (atoms,) atomic numbers.
    """

    def __init__(self, species: IntArray) -> None:
        self._species = species
        self._pairs = np.stack(pair_indices(len(species)), axis=1)
        self._distances = PairDistances(len(species))
        self._total = np.zeros(len(self._pairs))
        self._frames = 0

    def add(self, positions: FloatArray) -> None:
        """Positions (f, atoms, 3), angstrom."""
        for begin in range(0, len(positions), self._distances.chunk):
            piece = positions[begin : begin + self._distances.chunk]
            self._total += self._distances.of(piece).sum(axis=1, dtype=np.float64)
        self._frames += len(positions)

    def bonds(self) -> "Bonds":
        """Pairs whose mean distance is within 1.2 times the sum of ASE's natural cutoffs.

        Raises:
            DataError: no pair of atoms is bonded.
        """
        means = self._total / max(self._frames, 1)
        first, second = self._pairs.T
        radii = np.array(natural_cutoffs(Atoms(numbers=self._species), mult=CUTOFF_SCALE))
        bonded = means < radii[first] + radii[second]
        if not bonded.any():
            raise DataError(
                f"no bonds among the {len(self._species)} atoms of the reference: all mean distances exceed the "
                "covalent radii (check the unit of its positions)"
            )
        pairs = self._pairs[bonded]
        types = tuple(bond_type(int(self._species[i]), int(self._species[j])) for i, j in pairs)
        return Bonds(pairs, means[bonded], types)


def find_bonds(species: IntArray, positions: FloatArray) -> Bonds:
    """Bonds of a reference in memory, by the rule of `MeanDistances`.

    Args:
        species: (atoms,) atomic numbers.
        positions: (frames, atoms, 3) angstrom of the reference.

    Raises:
        DataError: no pair of atoms is bonded.
    """
    means = MeanDistances(species)
    means.add(positions)
    return means.bonds()


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Lengths (frames, bonds) in angstrom from positions (frames, atoms, 3)."""
    return np.asarray(np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1))


@dataclass(frozen=True, eq=False)
class BondStatistics:
    """Bond lengths of one type in one trajectory, block by block.

    Attributes:
        count: number of such bonds in the molecule.
        centre: angstrom; the moments are about it.
        moments: number, sum and sum of squares of the lengths less the centre.
        histogram: of the lengths.
    """

    count: int
    centre: float
    moments: BlockSums
    histogram: Histogram


class BondCounter:
    """Collects the lengths of the bonds of frames that come in pieces.

    Args:
        bonds: of the reference; they decide the edges of the histograms.
        frames: how many will come.
    """

    def __init__(self, bonds: Bonds, frames: int) -> None:
        self._pairs = bonds.pairs
        self._blocks = MicroBlocks(frames)
        self._types = {kind: _TypeCounter(bonds.lengths[at], at, self._blocks) for kind, at in bonds.by_type().items()}

    def add(self, positions: FloatArray, first: int) -> None:
        """Positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        lengths = bond_lengths(positions, self._pairs).astype(np.float64)
        for one in self._types.values():
            one.add(lengths, first)

    def statistics(self) -> dict[str, BondStatistics]:
        """By type, in blocks of several times the correlation of its lengths."""
        return {kind: one.statistics() for kind, one in self._types.items()}


class _TypeCounter:
    """Moments and histogram of one type of bonds."""

    def __init__(self, lengths: FloatArray, chosen: IntArray, blocks: MicroBlocks) -> None:
        low, high = float(lengths.min()) - 0.5, float(lengths.max()) + 0.5
        self._first_bin = int(np.floor(low / BIN_WIDTH))
        self._edges = np.arange(self._first_bin, np.ceil(high / BIN_WIDTH) + 1) * BIN_WIDTH
        self._centre = float(lengths.mean())
        self._chosen, self._blocks = chosen, blocks
        self._moments = np.zeros((len(blocks), 3))
        self._counts = np.zeros((len(blocks), len(self._edges) + 1), dtype=np.int64)  # one bin more at both ends
        self._series = SeriesMeans(blocks.frames, 2)

    def add(self, lengths: FloatArray, first: int) -> None:
        chosen = lengths[:, self._chosen]
        shifted = chosen - self._centre
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
        return BondStatistics(len(self._chosen), self._centre, moments, histogram)


def bond_statistics(positions: FloatArray, bonds: Bonds) -> dict[str, BondStatistics]:
    """Of frames in memory (frames, atoms, 3), angstrom."""
    counter = BondCounter(bonds, len(positions))
    counter.add(positions, 0)
    return counter.statistics()


def compare_bonds(run: FloatArray, reference: FloatArray, bonds: Bonds) -> tuple[BondLengths, ...]:
    """Bond lengths per type, run against reference, of frames in memory.

    Args:
        run, reference: (frames, atoms, 3) angstrom; of the run the stable frames.
        bonds: bonds of the reference.
    """
    return compare_bond_statistics(bond_statistics(run, bonds), bond_statistics(reference, bonds))


def compare_bond_statistics(
    run: dict[str, BondStatistics], reference: dict[str, BondStatistics]
) -> tuple[BondLengths, ...]:
    """Bond lengths per type, run against reference."""
    return tuple(_compare_type(kind, run[kind], reference[kind]) for kind in run)


def _compare_type(kind: str, run: BondStatistics, reference: BondStatistics) -> BondLengths:
    centre = reference.centre

    def mean(sums: FloatArray) -> FloatArray:
        return np.asarray(centre + sums[..., 1] / sums[..., 0])

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
