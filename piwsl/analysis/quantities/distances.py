"""h(r), the histogram of all interatomic distances, for all pairs together and for each pair of elements."""

from dataclasses import dataclass

import numpy as np
import torch

from piwsl.analysis.quantities.slow_motion import ModeSampler, SlowModes
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import Histogram
from piwsl.analysis.statistics.uncertainty import MicroBlocks
from piwsl.structures.pairs import PairDistances, pair_indices, pair_kind
from piwsl.trajectories.source import PIECE
from piwsl.typing import FloatArray, IntArray

BINS = 500
RANGE = 10.0  # angstrom


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
        self._row = len(self.kinds) * (bins + 1)
        kinds = [self.kinds.index(name) * (bins + 1) for name in names]
        self._kinds = np.array(kinds, dtype=np.int32).reshape(-1, 1)
        self._distances = PairDistances(len(species))
        self._blocks = MicroBlocks(frames)
        self._counts = np.zeros((len(self._blocks), self._row), dtype=np.int64)
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
            if distances.max(initial=0.0) >= self._bins:
                np.minimum(distances, np.float32(self._bins), out=distances)
            self._count(distances.astype(np.int32), first + begin)

    def _count(self, places: IntArray, first: int) -> None:
        """Add bins (pairs, frames) to the micro-blocks of the frames from ``first`` on."""
        places += self._kinds
        parts = list(self._blocks.parts(first, places.shape[1]))
        if len(parts) > 1:
            lengths = [stop - start for _, start, stop in parts]
            places += np.repeat(np.arange(len(parts), dtype=np.int32) * self._row, lengths)
        # That of torch counts 32-bit integers as they are.
        found = torch.bincount(torch.from_numpy(places.ravel()), minlength=len(parts) * self._row)
        self._counts[parts[0][0] : parts[-1][0] + 1] += found.numpy().reshape(len(parts), self._row)

    def histograms(self) -> DistanceHistograms:
        """h(r) in blocks of several times the slowest motion."""
        per_sample = self._series.inefficiency() if self._modes.count else float(max(self._blocks.frames, 1))
        per_sample = min(per_sample, float(max(self._blocks.frames, 1)))
        by_kind = self._counts.reshape(len(self._blocks), len(self.kinds), self._bins + 1)
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
