"""Neighbor lists: searched once, or with a skin for atoms that move."""

from dataclasses import dataclass

import numpy as np
from vesin import NeighborList

from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NeighborEdges:
    """Directed edges of one structure.

    Attributes:
        edges: (2, E) center i and neighbor j; of those found by `neighbor_edges`, the second half are the first
            half the other way round, in the same order.
        shifts: (E, 3) angstrom, added to r_j - r_i.
    """

    edges: IntArray
    shifts: FloatArray


def neighbor_edges(
    positions: FloatArray, cell: FloatArray, pbc: tuple[bool, bool, bool], cutoff: float
) -> NeighborEdges:
    """Return all pairs within a cutoff, periodic images included: each pair once, then in the other direction.

    Args:
        positions: (n, 3) angstrom.
        cell: (3, 3) angstrom.
        pbc: periodic directions.
        cutoff: angstrom.
    """
    finder = NeighborList(cutoff=cutoff, full_list=False, sorted=True)
    i, j, images = finder.compute(points=positions, box=cell, periodic=np.array(pbc), quantities="ijS")
    once = np.stack([i, j]).astype(np.int64)
    shifts = np.asarray(images, dtype=np.float64) @ cell
    return NeighborEdges(np.concatenate([once, once[::-1]], axis=1), np.concatenate([shifts, -shifts]))


# Angstrom. A thicker skin is searched less often and holds more pairs that are too far.
SKIN = 0.5


class SkinnedNeighbors:
    """Pairs within a cutoff of one structure whose atoms move.

    Args:
        cutoff: angstrom.
        pbc: periodic directions.
        skin: extra range of the list, angstrom.
    """

    def __init__(self, cutoff: float, pbc: tuple[bool, bool, bool], skin: float = SKIN) -> None:
        self._cutoff = cutoff
        self._pbc = np.array(pbc)
        self._skin = skin
        self._finder = NeighborList(cutoff=cutoff + skin, full_list=False, sorted=True)
        self._reference: FloatArray | None = None
        self._cell = np.zeros((3, 3))
        self.searches = 0

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> tuple[IntArray, FloatArray]:
        """Edges (2, E) and edge vectors (E, 3) within the cutoff: each pair once, then the other way round.

        Positions (n, 3) and cell (3, 3) in angstrom; a list is searched anew, too, where the cell has changed.
        """
        cell = np.zeros((3, 3)) if cell is None else cell
        if self._is_stale(positions, cell):
            self._search(positions, cell)
        vectors = positions[self._pairs[1]] - positions[self._pairs[0]] + self._shifts
        near = np.einsum("ij,ij->i", vectors, vectors) < self._cutoff**2
        pairs, vectors = self._pairs[:, near], vectors[near]
        return np.concatenate([pairs, pairs[::-1]], axis=1), np.concatenate([vectors, -vectors])

    def _is_stale(self, positions: FloatArray, cell: FloatArray) -> bool:
        if self._reference is None or self._reference.shape != positions.shape or not np.array_equal(self._cell, cell):
            return True
        moved = positions - self._reference
        # Two atoms approach each other by at most twice what one of them moves. NaN searches anew.
        return not np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < (0.5 * self._skin) ** 2

    def _search(self, positions: FloatArray, cell: FloatArray) -> None:
        self.searches += 1
        self._reference, self._cell = positions.copy(), cell.copy()
        if not np.isfinite(positions).all():
            # A run that has exploded: no search comes to an end there, and stop rules want to see the positions.
            self._pairs, self._shifts = np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3))
            return
        first, second, images = self._finder.compute(points=positions, box=cell, periodic=self._pbc, quantities="ijS")
        self._pairs = np.stack([first, second]).astype(np.int64)
        self._shifts = np.asarray(images, dtype=np.float64) @ cell
