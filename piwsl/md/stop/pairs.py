"""Distances of pairs of atoms as stop rules need them."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic

from piwsl.export.neighbour_list import SkinnedNeighbours
from piwsl.md.analysis.molecule.contacts import unbonded_pairs
from piwsl.md.elements import contact_scale, is_metal
from piwsl.md.engines.base import Snapshot
from piwsl.md.structure import bonded_pairs
from piwsl.typing import FloatArray, IntArray

# Pairs (p, 2), their distances (p,) and the limits of these (p,), angstrom.
Pairs = tuple[IntArray, FloatArray, FloatArray]


class FixedImages:
    """Distances of certain pairs of atoms; in a cell each pair keeps the image that is nearest at the start."""

    def __init__(self, structure: Atoms, pairs: IntArray) -> None:
        self.pairs = pairs
        self._first, self._second = pairs[:, 0], pairs[:, 1]
        self._images: FloatArray | None = None
        if structure.pbc.any():
            vectors = structure.positions[self._second] - structure.positions[self._first]
            nearest, _ = find_mic(vectors, structure.cell, structure.pbc)
            cell = structure.cell.complete().array
            self._images = np.round(np.linalg.solve(cell.T, (nearest - vectors).T).T)

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> FloatArray:
        """Distances (pairs,) in angstrom of positions (n, 3) in a cell (3, 3)."""
        vectors = positions[self._second] - positions[self._first]
        if self._images is not None and cell is not None:
            vectors = vectors + self._images @ cell
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


class AllPairs:
    """Unbonded pairs of a molecule, with a share of the sum of their covalent radii."""

    def __init__(self, structure: Atoms, share: float) -> None:
        self._pairs, radii = unbonded_pairs(structure.numbers, bonded_pairs(structure))
        self._first, self._second = self._pairs[:, 0].copy(), self._pairs[:, 1].copy()
        self._limits = share * radii

    def __call__(self, snapshot: Snapshot) -> Pairs:
        """All of them."""
        vectors = snapshot.positions[self._second] - snapshot.positions[self._first]
        return self._pairs, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), self._limits


class PairSearch:
    """The same for cells and large molecules: of the pairs only those that are closer than their limit."""

    def __init__(self, structure: Atoms, share: float) -> None:
        self._radii = share * covalent_radii[structure.numbers]
        self._count = len(structure)
        bonds = bonded_pairs(structure)
        self._metals = is_metal(structure.numbers) & structure.pbc.any()
        bonds = bonds[~self._metals[bonds].any(axis=1)]
        # In order; the last is larger than any pair.
        self._bonded = np.append(bonds[:, 0] * self._count + bonds[:, 1], self._count**2)
        periodic = bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2])
        self._neighbours = SkinnedNeighbours(2 * float(self._radii.max()), periodic)

    def __call__(self, snapshot: Snapshot) -> Pairs:
        """Those that are too close."""
        edges, vectors = self._neighbours(snapshot.positions, snapshot.cell)
        half = edges.shape[1] // 2  # the rest is the same the other way round
        first, second, vectors = edges[0, :half], edges[1, :half], vectors[:half]
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        limits = self._radii[first] + self._radii[second]
        if self._metals.any():
            limits = limits * contact_scale(self._metals[first] | self._metals[second])
        close = np.flatnonzero((distances < limits) & (first != second))
        low, high = np.minimum(first[close], second[close]), np.maximum(first[close], second[close])
        keys = low * self._count + high
        free = self._bonded[np.searchsorted(self._bonded, keys)] != keys
        close = close[free]
        return np.stack([low, high], axis=1)[free], distances[close], limits[close]
