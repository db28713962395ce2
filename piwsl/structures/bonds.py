"""Bonds of a molecule or crystal, and their reference lengths."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

from piwsl.errors import DataError
from piwsl.md.analysis.molecule.pairs import PairDistances, pair_indices, pair_kind
from piwsl.typing import BoolArray, FloatArray, IntArray

# ASE's natural cutoffs are bare sums of covalent radii, which a stretched C-H bond already exceeds.
CUTOFF_SCALE = 1.2


@dataclass(frozen=True, eq=False)
class Bonds:
    """The bonds of a molecule or crystal.

    Attributes:
        pairs: (bonds, 2) atom indices; i < j in a molecule.
        lengths: (bonds,) mean lengths in the reference, angstrom.
        types: (bonds,) names such as ``C-H``.
        images: (bonds, 3) cells from the first atom to the second, of unwrapped frames; None in vacuum.
    """

    pairs: IntArray
    lengths: FloatArray
    types: tuple[str, ...]
    images: IntArray | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def chosen(self, which: BoolArray) -> "Bonds":
        """Those of a mask (bonds,)."""
        types = tuple(kind for kind, kept in zip(self.types, which, strict=True) if kept)
        return Bonds(self.pairs[which], self.lengths[which], types, None if self.images is None else self.images[which])

    def by_type(self) -> dict[str, IntArray]:
        """Indices into ``pairs`` for each bond type, sorted by name."""
        names = np.array(self.types)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


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
