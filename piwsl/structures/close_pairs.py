"""Search for pairs of atoms that are closer than a limit of their elements, cheap enough for every step."""

import numpy as np

from piwsl.structures.cells import PBC
from piwsl.structures.neighbors import SkinnedNeighbors
from piwsl.typing import FloatArray, IntArray

# Up to this number of atoms, computing all pairs of a molecule is faster than a neighbor search.
ALL_PAIRS = 300


class ClosePairs:
    """Search for the pair that is closest relative to its limit, in structures of the same atoms.

    Args:
        numbers: Atomic numbers (n,).
        pbc: Periodic directions.
        limits: Smallest distance (Z, Z) of each pair of elements, angstrom; 0 for pairs that are not checked.
        copies: Number of copies of a molecule of which the atoms consist; only pairs within a copy are checked.
    """

    def __init__(self, numbers: IntArray, pbc: PBC, limits: FloatArray, copies: int = 1) -> None:
        self._numbers, self._pbc, self._size = numbers, pbc, len(numbers) // copies
        first, second = np.triu_indices(len(numbers) if len(numbers) <= ALL_PAIRS and not any(pbc) else 0, k=1)
        within = first // self._size == second // self._size
        self._first, self._second = first[within], second[within]
        self._squares: FloatArray | None = None
        self._use(limits.copy())

    def _use(self, limits: FloatArray) -> None:
        self._limits = limits
        elements = np.unique(self._numbers)
        longest = float(limits[np.ix_(elements, elements)].max())
        self._neighbors = SkinnedNeighbors(longest, self._pbc) if longest else None
        if len(self._numbers) <= ALL_PAIRS and not any(self._pbc):
            self._squares = limits[self._numbers[self._first], self._numbers[self._second]] ** 2

    def leave_out(self, first: int, second: int) -> None:
        """Check pairs of the elements of these two atoms no more."""
        one, other = self._numbers[first], self._numbers[second]
        self._limits[one, other] = self._limits[other, one] = 0.0
        self._use(self._limits)

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> tuple[int, int, float] | None:
        """Return the atoms and the distance, angstrom, of the pair that is closest relative to its limit.

        Args:
            positions: Positions (n, 3), angstrom.
            cell: Cell (3, 3), angstrom; None without one.

        Returns:
            None if no pair is closer than its limit.
        """
        if self._neighbors is None:
            return None
        if self._squares is not None:
            vectors = positions.take(self._second, axis=0)
            vectors -= positions.take(self._first, axis=0)
            squares = np.einsum("ij,ij->i", vectors, vectors)
            if not (squares < self._squares).any():
                return None
            return self._closest(self._first, self._second, squares, self._squares)
        edges, vectors = self._neighbors(positions, cell)
        half = edges.shape[1] // 2  # the second half contains the same pairs in the other direction
        first, second, vectors = edges[0, :half], edges[1, :half], vectors[:half]
        squares = np.einsum("ij,ij->i", vectors, vectors)
        allowed = self._limits[self._numbers[first], self._numbers[second]] ** 2
        close = squares < allowed
        if self._size < len(self._numbers):
            close &= first // self._size == second // self._size
        if not close.any():
            return None
        return self._closest(first[close], second[close], squares[close], allowed[close])

    def _closest(
        self, first: IntArray, second: IntArray, squares: FloatArray, allowed: FloatArray
    ) -> tuple[int, int, float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = int(np.where(allowed > 0, squares / allowed, np.inf).argmin())
        return int(first[worst]), int(second[worst]), float(np.sqrt(squares[worst]))
