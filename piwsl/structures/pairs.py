"""Atom pairs of a molecule: indices, names and distances."""

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray, IntArray

CHUNK_VALUES = 210_000  # number of distances in memory at a time, chosen to fit into the CPU cache


def pair_indices(atoms: int) -> tuple[IntArray, IntArray]:
    """Return the indices i and j of all pairs, i < j."""
    first, second = np.triu_indices(atoms, k=1)
    return first, second


def pair_kind(first: int, second: int) -> str:
    """Return the name of a pair of atomic numbers, such as ``C-H``: carbon first, hydrogen last, else alphabetical."""
    symbols = sorted((chemical_symbols[first], chemical_symbols[second]), key=lambda s: (s != "C", s == "H", s))
    return "-".join(symbols)


def pair_numbers(kind: str) -> tuple[int, int]:
    """Return the atomic numbers of a pair of elements such as ``C-H``, in any order.

    Raises:
        ValueError: The text does not name two elements.
    """
    symbols = kind.split("-")
    numbers = [atomic_numbers.get(symbol, 0) for symbol in symbols]
    if len(symbols) != 2 or not all(1 <= number <= MAX_ATOMIC_NUMBER for number in numbers):
        raise ValueError(f"{kind[:20]!r} is not a pair of elements such as C-H")
    return numbers[0], numbers[1]


class ShortestPairs:
    """Accumulate the shortest distance of each pair of elements."""

    def __init__(self) -> None:
        self._size = MAX_ATOMIC_NUMBER + 1
        self._table = np.full(self._size**2, np.inf)

    def add(self, species: IntArray, first: IntArray, second: IntArray, distances: FloatArray) -> None:
        """Add pairs of a structure with atomic numbers ``species``; distances (p,) in angstrom."""
        keys = species[first] * self._size + species[second]
        np.minimum.at(self._table, keys, distances)

    def by_numbers(self) -> dict[tuple[int, int], float]:
        """Return the distances, angstrom, by the atomic numbers of the pairs found, the lower number first."""
        table = self._table.reshape(self._size, self._size)
        table = np.minimum(table, table.T)
        pairs = np.argwhere(np.isfinite(table) & ~np.tri(self._size, k=-1, dtype=bool))
        return {(int(low), int(high)): float(table[low, high]) for low, high in pairs}


class PairDistances:
    """Compute the distances of all pairs in a molecule in vacuum (float32), in buffers that fit into the CPU cache."""

    def __init__(self, atoms: int) -> None:
        self.pairs = atoms * (atoms - 1) // 2
        self.chunk = max(CHUNK_VALUES // max(self.pairs, 1), 1)
        self._squares = np.empty(self.pairs * self.chunk, dtype=np.float32)
        self._parts = np.empty(3 * max(atoms - 1, 1) * self.chunk, dtype=np.float32)

    def of(self, piece: FloatArray) -> FloatArray:
        """Return distances (pairs, frames) for positions (frames, atoms, 3) of at most `chunk` frames, angstrom.

        The next call overwrites the returned buffer.
        """
        # With frames last, every operation runs over long contiguous rows. Relative to the first atom, a molecule that
        # has drifted far keeps its precision in float32.
        local = np.array(piece.transpose(2, 1, 0), order="C")
        local -= local[:, :1].copy()
        local = local.astype(np.float32, copy=False)
        _, atoms, frames = local.shape
        squares = self._squares[: self.pairs * frames].reshape(self.pairs, frames)
        row = 0
        for atom in range(atoms - 1):
            others = atoms - 1 - atom
            into = squares[row : row + others]
            parts = self._parts[: 3 * others * frames].reshape(3, others, frames)
            np.subtract(local[:, atom + 1 :], local[:, atom : atom + 1], out=parts)
            np.multiply(parts, parts, out=parts)
            np.add(parts[0], parts[1], out=into)
            np.add(into, parts[2], out=into)
            row += others
        return np.asarray(np.sqrt(squares, out=squares))
