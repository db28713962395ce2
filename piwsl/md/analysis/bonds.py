"""Bonds of a molecule, their reference lengths, and bond-length distributions per pair of elements."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import natural_cutoffs

from piwsl.errors import DataError
from piwsl.md.analysis.distances import pair_indices
from piwsl.md.analysis.distributions import DistributionComparison, Histogram, compare
from piwsl.md.analysis.results import Difference, Measurement
from piwsl.md.analysis.uncertainty import Blocks, BlockSums, difference_of, inefficiency
from piwsl.typing import FloatArray, IntArray

# ASE's natural cutoffs are bare sums of covalent radii, which a stretched C-H bond already exceeds.
CUTOFF_SCALE = 1.2
BIN_WIDTH = 0.01  # angstrom
CHUNK_FRAMES = 1000


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
    symbols = sorted((chemical_symbols[first], chemical_symbols[second]), key=lambda s: (s != "C", s == "H", s))
    return "-".join(symbols)


def find_bonds(species: IntArray, positions: FloatArray) -> Bonds:
    """Bonds of a reference: pairs whose mean distance is within 1.2 times the sum of ASE's natural cutoffs.

    Means of distances, not of positions: a molecule that turns has no mean structure. One frame is enough.

    Args:
        species: (atoms,) atomic numbers.
        positions: (frames, atoms, 3) angstrom of the reference.

    Raises:
        DataError: no pair of atoms is bonded.
    """
    first, second = pair_indices(len(species))
    total = np.zeros(len(first))
    for begin in range(0, len(positions), CHUNK_FRAMES):
        piece = positions[begin : begin + CHUNK_FRAMES]
        total += np.linalg.norm(piece[:, first] - piece[:, second], axis=-1).sum(axis=0, dtype=np.float64)
    means = total / len(positions)
    radii = np.array(natural_cutoffs(Atoms(numbers=species), mult=CUTOFF_SCALE))
    bonded = means < radii[first] + radii[second]
    if not bonded.any():
        raise DataError(
            f"no bonds among the {len(species)} atoms of the reference: all mean distances exceed the covalent radii "
            "(check the unit of its positions)"
        )
    pairs = np.stack([first[bonded], second[bonded]], axis=1)
    types = tuple(bond_type(int(species[i]), int(species[j])) for i, j in pairs)
    return Bonds(pairs, means[bonded], types)


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Lengths (frames, bonds) in angstrom from positions (frames, atoms, 3)."""
    return np.asarray(np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1))


def compare_bonds(run: FloatArray, reference: FloatArray, bonds: Bonds) -> tuple[BondLengths, ...]:
    """Bond lengths per type, run against reference.

    Args:
        run, reference: (frames, atoms, 3) angstrom; of the run the stable frames.
        bonds: bonds of the reference.
    """
    ours, theirs = bond_lengths(run, bonds.pairs), bond_lengths(reference, bonds.pairs)
    return tuple(
        _compare_type(kind, ours[:, chosen], theirs[:, chosen], bonds.lengths[chosen])
        for kind, chosen in bonds.by_type().items()
    )


def _compare_type(kind: str, ours: FloatArray, theirs: FloatArray, lengths: FloatArray) -> BondLengths:
    low, high = float(lengths.min()) - 0.5, float(lengths.max()) + 0.5
    edges = np.arange(np.floor(low / BIN_WIDTH), np.ceil(high / BIN_WIDTH) + 1) * BIN_WIDTH
    centre = float(lengths.mean())
    (run_moments, run_counts), (reference_moments, reference_counts) = (
        _summarise(values, centre, edges) for values in (ours, theirs)
    )

    def mean(sums: FloatArray) -> FloatArray:
        return np.asarray(centre + sums[..., 1] / sums[..., 0])

    return BondLengths(
        kind=kind,
        count=ours.shape[1],
        mean=run_moments.measure(mean, "angstrom"),
        reference_mean=reference_moments.measure(mean, "angstrom"),
        mean_difference=difference_of(run_moments, reference_moments, mean, "angstrom"),
        width=run_moments.measure(_width, "angstrom"),
        reference_width=reference_moments.measure(_width, "angstrom"),
        width_difference=difference_of(run_moments, reference_moments, _width, "angstrom"),
        distribution=compare(run_counts, reference_counts),
    )


def _width(sums: FloatArray) -> FloatArray:
    mean = sums[..., 1] / sums[..., 0]
    return np.asarray(np.sqrt(np.maximum(sums[..., 2] / sums[..., 0] - mean**2, 0.0)))


def _summarise(lengths: FloatArray, centre: float, edges: FloatArray) -> tuple[BlockSums, Histogram]:
    """Moments about ``centre`` (count, sum, sum of squares) and counts of lengths (frames, bonds), block by block."""
    shifted = lengths.astype(np.float64) - centre
    first, second = shifted.sum(axis=1), (shifted**2).sum(axis=1)
    blocks = Blocks.automatic(len(lengths), inefficiency(first, second))
    number = np.full(len(lengths), lengths.shape[1], dtype=np.float64)
    moments = BlockSums(blocks.sums(np.stack([number, first, second], axis=1)), blocks.samples)
    counts = np.stack([np.histogram(lengths[start:stop], edges)[0] for start, stop in pairwise(blocks.edges)]).astype(
        np.float64
    )
    beyond = lengths.size - int(counts.sum())
    return moments, Histogram(edges, BlockSums(counts, blocks.samples), beyond, "angstrom")
