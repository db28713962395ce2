"""Neighbor lists: a search for all pairs within a cutoff, and a list with a skin for moving atoms."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from vesin import NeighborList

from piwsl.structures.cells import PBC, cell_heights, check_cell
from piwsl.typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NeighborPairs:
    """Pairs of atoms within a cutoff, each listed once. Every periodic image of a pair is a separate entry.

    Attributes:
        first, second: Indices i and j of the atoms (P,).
        images: Cell offsets (P, 3) of atom j.
        distances: Distances (P,), angstrom.
    """

    first: IntArray
    second: IntArray
    images: IntArray
    distances: FloatArray

    def select(self, mask: BoolArray) -> "NeighborPairs":
        """Return the pairs selected by a mask (P,)."""
        return NeighborPairs(self.first[mask], self.second[mask], self.images[mask], self.distances[mask])


class PairSearch:
    """Search for all pairs of atoms within a cutoff, in molecules, cells, slabs and wires.

    The cost grows linearly with the number of atoms. Repeated calls reuse the memory of the search.

    Args:
        cutoff: Cutoff radius, angstrom.
    """

    def __init__(self, cutoff: float) -> None:
        self._cutoff = cutoff
        self._list = NeighborList(cutoff=cutoff, full_list=False, sorted=True)

    def __call__(self, positions: FloatArray, cell: FloatArray | None, pbc: PBC) -> NeighborPairs:
        """Return the pairs, sorted by their first and then by their second atom.

        An atom and its periodic image form a pair if they are within the cutoff.

        Args:
            positions: Positions (n, 3), angstrom. They must be finite; otherwise the search does not terminate.
            cell: Cell (3, 3), angstrom; None without one.
            pbc: Periodic directions.

        Raises:
            DataError: The cell is flat or too small for its atoms (see `check_cell`), so that the search would not
                terminate.
        """
        box = np.zeros((3, 3)) if cell is None else np.ascontiguousarray(cell)
        check_cell(box, pbc, positions)
        if self._is_sparse(positions, box, pbc):
            return _sparse_pairs(positions, box, pbc, self._cutoff)
        first, second, images, distances = self._list.compute(
            points=positions, box=box, periodic=np.array(pbc), quantities="ijSd"
        )
        return NeighborPairs(
            first.astype(np.int64), second.astype(np.int64), images.astype(np.int64), np.asarray(distances)
        )

    def _is_sparse(self, positions: FloatArray, box: FloatArray, pbc: PBC) -> bool:
        """Return whether vesin would divide by zero and abort the process.

        vesin sorts atoms into bins as wide as the cutoff. If there are more than 1e5 bins, it reduces their number
        along each direction by the same factor; a direction with a single bin then has no bins. Seen with vesin 0.6.2.
        """
        if len(positions) == 0:
            return False
        extents = positions.max(axis=0) - positions.min(axis=0)
        longest = 1.8 * max(float(extents.max()), float(box.max()), -float(box.min()))  # upper limit for any vector
        if (longest / self._cutoff) ** 3 < _BINS:
            return False
        if any(pbc):
            heights = cell_heights(box, pbc)
            # A direction that is not periodic has an arbitrary orientation.
            extents = np.where(np.isfinite(heights), heights, np.linalg.norm(extents))
        bins = np.maximum(extents / self._cutoff, 1.0)
        total = float(bins.prod())
        mixed = any(pbc) and not all(pbc)
        return total > _BINS and (mixed or bool(bins.min() * np.cbrt(_BINS / total) < 2.0))


_BINS = 9e4


def _sparse_pairs(positions: FloatArray, cell: FloatArray, pbc: PBC, cutoff: float) -> NeighborPairs:
    """Return the pairs of `PairSearch` with a k-d tree: slower, but for any distances and cells."""
    periodic = np.array(pbc)
    lattice = np.array(cell, dtype=np.float64)
    if not periodic.all():
        lattice[~periodic] = np.linalg.qr(lattice[periodic].T, mode="complete")[0][:, periodic.sum() :].T
    places = positions @ np.linalg.inv(lattice)
    outside = np.where(periodic, np.floor(places), 0.0)
    places, points = places - outside, positions - outside @ lattice
    atoms, images = np.arange(len(positions)), np.zeros((len(positions), 3), dtype=np.int64)
    all_places, all_points = places, points
    for direction in np.flatnonzero(periodic):
        reach = cutoff / cell_heights(cell, pbc)[direction]
        shifts = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
        near = [np.flatnonzero(np.abs(all_places[:, direction] + shift - 0.5) <= reach + 0.5) for shift in shifts]
        numbers = np.repeat(shifts, [len(chosen) for chosen in near])
        chosen = np.concatenate(near)
        atoms, images = atoms[chosen], images[chosen]
        images[:, direction] = numbers
        all_places, all_points = all_places[chosen], all_points[chosen] + numbers[:, None] * lattice[direction]
    found = cKDTree(points).sparse_distance_matrix(cKDTree(all_points), cutoff, output_type="ndarray")
    first, second, distances = found["i"], atoms[found["j"]], found["v"]
    whole = images[found["j"]]
    ahead = np.sign(whole) @ [4, 2, 1]  # every pair was found twice, once from each atom
    kept = (distances < cutoff) & ((ahead > 0) | ((ahead == 0) & (first < second)))
    first, second, distances, whole = first[kept], second[kept], distances[kept], whole[kept]
    whole = whole + (outside[first] - outside[second]).astype(np.int64)
    turned = first > second
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    whole[turned] *= -1
    order = np.lexsort((second, first))
    return NeighborPairs(first[order].astype(np.int64), second[order].astype(np.int64), whole[order], distances[order])


def neighbor_pairs(positions: FloatArray, cell: FloatArray | None, pbc: PBC, cutoff: float) -> NeighborPairs:
    """Return all pairs within a cutoff (angstrom). The other arguments are the same as for `PairSearch`."""
    return PairSearch(cutoff)(positions, cell, pbc)


@dataclass(frozen=True, eq=False)
class NeighborEdges:
    """Directed edges of one structure.

    Attributes:
        edges: Center i and neighbor j of each edge (2, E). In the result of `neighbor_edges`, the second half contains
            the edges of the first half, reversed, in the same order.
        shifts: Shifts (E, 3) to be added to r_j - r_i, angstrom.
    """

    edges: IntArray
    shifts: FloatArray


def neighbor_edges(positions: FloatArray, cell: FloatArray, pbc: PBC, cutoff: float) -> NeighborEdges:
    """Return all pairs within a cutoff, including periodic images: each pair once, then all pairs reversed.

    Args:
        positions: Positions (n, 3), angstrom.
        cell: Cell (3, 3), angstrom.
        pbc: Periodic directions.
        cutoff: Cutoff radius, angstrom.
    """
    pairs = neighbor_pairs(positions, cell, pbc, cutoff)
    once = np.stack([pairs.first, pairs.second])
    shifts = pairs.images.astype(np.float64) @ cell
    return NeighborEdges(np.concatenate([once, once[::-1]], axis=1), np.concatenate([shifts, -shifts]))


# Angstrom. With a thicker skin, searches are less frequent, but the list contains more pairs beyond the cutoff.
SKIN = 0.5


class SkinnedNeighbors:
    """Neighbor list with a skin for one structure with moving atoms.

    Args:
        cutoff: Cutoff radius, angstrom.
        pbc: Periodic directions.
        skin: Distance by which the list extends beyond the cutoff, angstrom.
    """

    def __init__(self, cutoff: float, pbc: PBC, skin: float = SKIN) -> None:
        self._cutoff = cutoff
        self._pbc = pbc
        self._skin = skin
        self._search_pairs = PairSearch(cutoff + skin)
        self._reference: FloatArray | None = None
        self._cell = np.zeros((3, 3))
        self.searches = 0

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> tuple[IntArray, FloatArray]:
        """Return edges (2, E) and edge vectors (E, 3) within the cutoff: each pair once, then all pairs reversed.

        The list is rebuilt if atoms have moved too far or the cell has changed.

        Args:
            positions: Positions (n, 3), angstrom.
            cell: Cell (3, 3), angstrom; None without one.
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
        # Two atoms approach each other by at most twice the largest displacement. NaN triggers a new search.
        return not np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < (0.5 * self._skin) ** 2

    def _search(self, positions: FloatArray, cell: FloatArray) -> None:
        self.searches += 1
        self._reference, self._cell = positions.copy(), cell.copy()
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            # The run has exploded: a search would not terminate, but stop rules still need the positions.
            self._pairs, self._shifts = np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3))
            return
        pairs = self._search_pairs(positions, cell, self._pbc)
        self._pairs = np.stack([pairs.first, pairs.second])
        self._shifts = pairs.images.astype(np.float64) @ cell
