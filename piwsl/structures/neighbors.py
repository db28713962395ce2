"""Neighbour lists."""

from dataclasses import dataclass

import numpy as np
from vesin import NeighborList

from piwsl.data.frames import Frame
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NeighbourEdges:
    """Directed edges of one structure.

    Attributes:
        edges: (2, E) centre i and neighbour j; of those found by `neighbour_edges`, the second half are the first
            half the other way round, in the same order.
        shifts: (E, 3) angstrom, added to r_j - r_i.
    """

    edges: IntArray
    shifts: FloatArray


def neighbour_edges(frame: Frame, cutoff: float) -> NeighbourEdges:
    """All pairs within ``cutoff`` (angstrom), periodic images included: each pair once, then the other way round."""
    finder = NeighborList(cutoff=cutoff, full_list=False, sorted=True)
    i, j, images = finder.compute(
        points=frame.positions, box=frame.cell, periodic=np.array(frame.pbc), quantities="ijS"
    )
    once = np.stack([i, j]).astype(np.int64)
    shifts = np.asarray(images, dtype=np.float64) @ frame.cell
    return NeighbourEdges(np.concatenate([once, once[::-1]], axis=1), np.concatenate([shifts, -shifts]))
