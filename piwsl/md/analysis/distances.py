"""h(r), the histogram of all interatomic distances, for all pairs together and for each pair of elements."""

from dataclasses import dataclass

import numpy as np

from piwsl.md.analysis.distributions import Histogram
from piwsl.md.analysis.elements import pair_kind
from piwsl.md.analysis.frame_source import PIECE
from piwsl.md.analysis.slow_motion import ModeSampler, SlowModes
from piwsl.md.analysis.uncertainty import MicroBlocks, SeriesMeans
from piwsl.typing import FloatArray, IntArray

BINS = 500
RANGE = 10.0  # angstrom
CHUNK_VALUES = 120_000  # distances held at a time: they stay in the processor's cache


def pair_indices(atoms: int) -> tuple[IntArray, IntArray]:
    """Every pair once, i < j: no zero diagonal, nothing counted twice."""
    first, second = np.triu_indices(atoms, k=1)
    return first, second


class PairDistances:
    """Distances of all pairs of a molecule in vacuum (no periodic images), float32, in buffers that stay in cache."""

    def __init__(self, atoms: int) -> None:
        self.pairs = atoms * (atoms - 1) // 2
        self.chunk = max(CHUNK_VALUES // max(self.pairs, 1), 1)
        self._squares = np.empty(self.pairs * self.chunk, dtype=np.float32)
        self._part = np.empty(max(atoms - 1, 1) * self.chunk, dtype=np.float32)

    def of(self, piece: FloatArray) -> FloatArray:
        """Distances (pairs, frames) of positions (frames, atoms, 3) of `chunk` frames at most, in a buffer."""
        # Relative to the first atom: a molecule that has drifted far keeps its digits in float32. Frames last:
        # every operation runs over long contiguous rows.
        local = np.ascontiguousarray((piece - piece[:, :1]).transpose(2, 1, 0), dtype=np.float32)
        _, atoms, frames = local.shape
        squares = self._squares[: self.pairs * frames].reshape(self.pairs, frames)
        row = 0
        for atom in range(atoms - 1):
            others = atoms - 1 - atom
            into, delta = squares[row : row + others], self._part[: others * frames].reshape(others, frames)
            for axis in range(3):
                np.subtract(local[axis, atom + 1 :], local[axis, atom], out=delta)
                if axis == 0:
                    np.multiply(delta, delta, out=into)
                else:
                    np.multiply(delta, delta, out=delta)
                    np.add(into, delta, out=into)
            row += others
        return np.asarray(np.sqrt(squares, out=squares))


@dataclass(frozen=True, eq=False)
class DistanceHistograms:
    """h(r) of a trajectory.

    Attributes:
        all_pairs: of all pairs of atoms.
        by_kind: of the pairs of each two elements, such as ``C-H``.
    """

    all_pairs: Histogram
    by_kind: dict[str, Histogram]


class DistanceCounter:
    """Counts the distances of frames that come in pieces, in order.

    Follows Fu et al., TMLR 2023 (arXiv 2210.07237), with each pair once.

    Args:
        species: (atoms,) atomic numbers.
        frames: how many will come.
        modes: slow motions of the molecule; they give the number of independent frames.
        bins, largest: number of bins between 0 and ``largest`` (angstrom).
    """

    def __init__(
        self, species: IntArray, frames: int, modes: SlowModes, bins: int = BINS, largest: float = RANGE
    ) -> None:
        first, second = pair_indices(len(species))
        names = [pair_kind(int(species[i]), int(species[j])) for i, j in zip(first, second, strict=True)]
        self.kinds = sorted(set(names))
        self._bins, self._largest = bins, largest
        # One count over all kinds: the bins of each, and one for what is beyond them.
        offsets = [self.kinds.index(name) * (bins + 1) for name in names]
        self._offsets = np.array(offsets, dtype=np.intp).reshape(-1, 1)
        self._distances = PairDistances(len(species))
        self._blocks = MicroBlocks(frames)
        self.counts = np.zeros((len(self._blocks), len(self.kinds) * (bins + 1)), dtype=np.int64)
        self._modes = modes
        self._series = SeriesMeans(frames, modes.count)

    def add(self, positions: FloatArray, first: int) -> None:
        """Count positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        for begin in range(0, len(positions), self._distances.chunk):
            piece = positions[begin : begin + self._distances.chunk]
            distances = self._distances.of(piece)
            if self._modes.count:
                self._series.add(self._modes.project(distances), first + begin)
            distances *= np.float32(self._bins / self._largest)
            np.minimum(distances, np.float32(self._bins), out=distances)
            places = distances.astype(np.intp)
            places += self._offsets
            for block, start, stop in self._blocks.parts(first + begin, len(piece)):
                self.counts[block] += np.bincount(places[:, start:stop].ravel(), minlength=self.counts.shape[1])

    def histograms(self) -> DistanceHistograms:
        """h(r) in blocks of several times the slowest motion."""
        per_sample = self._series.inefficiency() if self._modes.count else float(max(self._blocks.frames, 1))
        per_sample = min(per_sample, float(max(self._blocks.frames, 1)))
        by_kind = self.counts.reshape(len(self._blocks), len(self.kinds), self._bins + 1)
        found = {kind: self._histogram(by_kind[:, index], per_sample) for index, kind in enumerate(self.kinds)}
        return DistanceHistograms(self._histogram(by_kind.sum(axis=1), per_sample), found)

    def _histogram(self, counts: IntArray, per_sample: float) -> Histogram:
        edges = np.linspace(0.0, self._largest, self._bins + 1)
        inside = self._blocks.merged(counts[:, : self._bins], per_sample)
        return Histogram(edges, inside, int(counts[:, self._bins].sum()), "angstrom")


def distance_histogram(positions: FloatArray, bins: int = BINS, largest: float = RANGE) -> Histogram:
    """h(r) of frames in memory with blocks from their slowest motion.

    Args:
        positions: (frames, atoms, 3) angstrom, stable frames only.
        bins: number of bins between 0 and ``largest`` (angstrom).
    """
    species = np.zeros(positions.shape[1], dtype=np.int64)
    counter = DistanceCounter(species, len(positions), _modes(positions), bins, largest)
    counter.add(positions, 0)
    return counter.histograms().all_pairs


def slowest_motion(positions: FloatArray) -> float:
    """Frames per independent structure, of frames in memory (frames, atoms, 3), angstrom."""
    modes = _modes(positions)
    if not modes.count:
        return float(max(len(positions), 1))
    series, distances = SeriesMeans(len(positions), modes.count), PairDistances(positions.shape[1])
    for begin in range(0, len(positions), distances.chunk):
        series.add(modes.project(distances.of(positions[begin : begin + distances.chunk])), begin)
    return min(series.inefficiency(), float(len(positions)))


def _modes(positions: FloatArray) -> SlowModes:
    sampler = ModeSampler(positions.shape[1])
    for first in range(0, len(positions), PIECE):
        sampler.add(positions[first : first + PIECE], first)
    return sampler.modes()
