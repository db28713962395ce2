"""h(r), the histogram of all interatomic distances, and the slowest motion of the molecule."""

from itertools import pairwise

import numpy as np

from piwsl.md.analysis.distributions import Histogram
from piwsl.md.analysis.uncertainty import Blocks, BlockSums, inefficiency
from piwsl.typing import FloatArray, IntArray

BINS = 500
RANGE = 10.0  # angstrom
CHUNK_VALUES = 120_000  # distances held at a time: they stay in the processor's cache
MOST_PAIRS = 300  # pairs that the slowest motion is looked for in
MODES = 3
MODE_FRAMES = 2000  # frames that the modes are made from; all frames are projected on them


def pair_indices(atoms: int) -> tuple[IntArray, IntArray]:
    """Every pair once, i < j: no zero diagonal, nothing counted twice."""
    first, second = np.triu_indices(atoms, k=1)
    return first, second


def distance_counts(
    positions: FloatArray, frames: IntArray, bins: int = BINS, largest: float = RANGE
) -> tuple[IntArray, int]:
    """Count all interatomic distances of a molecule in vacuum (no periodic images), in float32.

    Args:
        positions: (frames, atoms, 3) angstrom.
        frames: (blocks + 1,) first frame of each block and the end of the last.
        bins: number of equal bins between 0 and ``largest`` (angstrom).

    Returns:
        Counts (blocks, bins), and the number of distances at or beyond ``largest``.
    """
    atoms = positions.shape[1]
    pairs = atoms * (atoms - 1) // 2
    chunk = max(CHUNK_VALUES // max(pairs, 1), 1)
    counts = np.zeros((len(frames) - 1, bins + 1), dtype=np.int64)
    squares = np.empty((pairs, chunk), dtype=np.float32)
    part = np.empty((max(atoms - 1, 1), chunk), dtype=np.float32)
    for block, (start, stop) in enumerate(pairwise(frames)):
        for begin in range(int(start), int(stop), chunk):
            piece = positions[begin : min(begin + chunk, int(stop))]
            distances = _distances(piece, squares[:, : len(piece)], part[:, : len(piece)])
            distances *= np.float32(bins / largest)
            np.minimum(distances, np.float32(bins), out=distances)
            counts[block] += np.bincount(distances.astype(np.intp).ravel(), minlength=bins + 1)
    return counts[:, :bins], int(counts[:, bins].sum())


def _distances(piece: FloatArray, squares: FloatArray, part: FloatArray) -> FloatArray:
    """Distances (pairs, frames) of positions (frames, atoms, 3), in the buffers given."""
    # Relative to the first atom: a molecule that has drifted far keeps its digits in float32. Frames last:
    # every operation runs over long contiguous rows.
    local = np.ascontiguousarray((piece - piece[:, :1]).transpose(2, 1, 0), dtype=np.float32)
    atoms = local.shape[1]
    row = 0
    for atom in range(atoms - 1):
        others = atoms - 1 - atom
        into, delta = squares[row : row + others], part[:others]
        for axis in range(3):
            np.subtract(local[axis, atom + 1 :], local[axis, atom], out=delta)
            if axis == 0:
                np.multiply(delta, delta, out=into)
            else:
                np.multiply(delta, delta, out=delta)
                np.add(into, delta, out=into)
        row += others
    return np.asarray(np.sqrt(squares, out=squares))


def distance_histogram(positions: FloatArray, bins: int = BINS, largest: float = RANGE) -> Histogram:
    """h(r) of a trajectory with blocks from its slowest motion.

    Args:
        positions: (frames, atoms, 3) angstrom, stable frames only.
        bins: number of bins between 0 and ``largest`` (angstrom).

    Follows Fu et al., TMLR 2023 (arXiv 2210.07237), with each pair once.
    """
    blocks = Blocks.automatic(len(positions), slowest_motion(positions))
    counts, beyond = distance_counts(positions, blocks.edges, bins, largest)
    edges = np.linspace(0.0, largest, bins + 1)
    return Histogram(edges, BlockSums(counts.astype(np.float64), blocks.samples), beyond, "angstrom")


def slowest_motion(positions: FloatArray) -> float:
    """Frames per independent structure.

    The longest autocorrelation time among the leading principal components of the pair distances: large slow
    motions (torsions) set it, and bond vibrations do not hide them.

    Args:
        positions: (frames, atoms, 3) angstrom.
    """
    frames, atoms, _ = positions.shape
    if frames < 2 or atoms < 2:
        return float(max(frames, 1))
    pairs = atoms * (atoms - 1) // 2
    chosen = np.unique(np.linspace(0, pairs - 1, min(pairs, MOST_PAIRS)).astype(np.int64))
    sample = _chosen_distances(positions[:: -(-frames // MODE_FRAMES)], chosen)
    modes = np.linalg.eigh(np.cov(sample, rowvar=False).reshape(len(chosen), len(chosen)))[1][:, -MODES:]
    chunk = max(CHUNK_VALUES // pairs, 1)
    modes, means = modes.astype(np.float32), sample.mean(axis=0)
    series = [
        (_chosen_distances(positions[begin : begin + chunk], chosen) - means) @ modes
        for begin in range(0, frames, chunk)
    ]
    return min(inefficiency(*np.concatenate(series).T), float(frames))


def _chosen_distances(piece: FloatArray, chosen: IntArray) -> FloatArray:
    """Distances (frames, pairs) of the chosen pairs, float32."""
    frames, atoms, _ = piece.shape
    squares = np.empty((atoms * (atoms - 1) // 2, frames), dtype=np.float32)
    found = _distances(piece, squares, np.empty((atoms - 1, frames), dtype=np.float32))
    return np.asarray(found[chosen].T)
