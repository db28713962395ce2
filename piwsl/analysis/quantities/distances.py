"""h(r), the histogram of interatomic distances, for all pairs and for each pair of elements.

The slowest motion of the molecule determines the number of independent frames.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from piwsl.analysis.quantity import (
    FigureText,
    Frames,
    Highlight,
    Observable,
    Panel,
    Quantity,
    QuantityComparison,
    Sample,
)
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.uncertainty import MicroBlocks
from piwsl.structures.pairs import PairDistances, pair_indices, pair_kind
from piwsl.trajectories.decoding import PIECE
from piwsl.typing import FloatArray, IntArray

BINS = 500
RANGE = 10.0  # angstrom
MOST_PAIRS = 300  # largest number of pairs used for the slow modes
MODES = 3
MODE_FRAMES = 2000  # smallest number of frames used for the modes, if available
FIGURE = FigureText(
    "Interatomic distances",
    caption="h(r), the distribution of all interatomic distances over the stable frames. Below, the "
    "difference, run minus reference; the gray band contains 95 % of the differences that noise alone would cause.",
    caption_of_several="h(r), the distribution of all interatomic distances over the stable frames of each run. Below, "
    "the differences, run minus reference.",
    shows_difference=True,
)


@dataclass(frozen=True, eq=False)
class SlowModes:
    """Leading principal components of the pair distances.

    They are dominated by large slow motions (torsions), and not by bond vibrations.

    Attributes:
        pairs: Row indices (p,) of the pairs used.
        means: Mean distances (p,), angstrom.
        vectors: Components (p, modes); no modes if there are fewer than two frames or atoms.
    """

    pairs: IntArray
    means: FloatArray
    vectors: FloatArray

    @property
    def count(self) -> int:
        """Number of modes."""
        return int(self.vectors.shape[1])

    def project(self, distances: FloatArray) -> FloatArray:
        """Return the values of the modes (frames, modes) for distances (all pairs, frames), angstrom."""
        chosen = distances if len(self.pairs) == len(distances) else distances[self.pairs]
        return np.asarray(chosen.T @ self.vectors - self.means @ self.vectors)


class ModeSampler:
    """Collect evenly spaced frames from a trajectory of unknown length in bounded memory.

    Args:
        atoms: Number of atoms of the molecule.
    """

    def __init__(self, atoms: int) -> None:
        count = atoms * (atoms - 1) // 2
        self.pairs = np.unique(np.linspace(0, max(count - 1, 0), min(count, MOST_PAIRS)).astype(np.int64))
        self._distances = PairDistances(atoms)
        self._each = 1
        self._sample: list[FloatArray] = []

    def add(self, positions: FloatArray, first: int) -> None:
        """Add positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        chosen = positions[-first % self._each :: self._each]
        for begin in range(0, len(chosen), self._distances.chunk):
            distances = self._distances.of(chosen[begin : begin + self._distances.chunk])
            self._sample.extend(distances[self.pairs].T.copy())
        while len(self._sample) >= 2 * MODE_FRAMES:
            self._sample = self._sample[::2]
            self._each *= 2

    def modes(self) -> SlowModes:
        """Return the modes of the collected frames."""
        if len(self._sample) < 2 or not len(self.pairs):
            return SlowModes(self.pairs, np.zeros(len(self.pairs)), np.zeros((len(self.pairs), 0)))
        sample = np.stack(self._sample)
        covariance = np.cov(sample, rowvar=False).reshape(len(self.pairs), len(self.pairs))
        vectors = np.linalg.eigh(covariance)[1][:, -MODES:]
        return SlowModes(self.pairs, sample.mean(axis=0), vectors.astype(np.float32))


@dataclass(frozen=True, eq=False)
class DistanceHistograms:
    """h(r) of a trajectory.

    Attributes:
        all_pairs: Histogram of the distances of all pairs of atoms.
        by_kind: Histograms by pair of elements, such as ``C-H``.
    """

    all_pairs: Histogram
    by_kind: dict[str, Histogram]


class DistanceCounter:
    """Accumulate interatomic distances from pieces of a trajectory.

    The definition follows Fu et al., TMLR 2023 (arXiv 2210.07237), with each pair counted once.

    Args:
        species: Atomic numbers (atoms,).
        frames: Number of frames in the trajectory.
        modes: Slow modes of the molecule, which determine the number of independent frames.
        bins, largest: Number of bins between 0 and ``largest`` (angstrom).
    """

    def __init__(
        self, species: IntArray, frames: int, modes: SlowModes, bins: int = BINS, largest: float = RANGE
    ) -> None:
        first, second = pair_indices(len(species))
        names = [pair_kind(int(species[i]), int(species[j])) for i, j in zip(first, second, strict=True)]
        self.kinds = sorted(set(names))
        self._bins, self._largest = bins, largest
        # One array of counts for all kinds: the bins of each kind, and a bin for larger distances.
        self._row = len(self.kinds) * (bins + 1)
        kinds = [self.kinds.index(name) * (bins + 1) for name in names]
        self._kinds = np.array(kinds, dtype=np.int32).reshape(-1, 1)
        self._distances = PairDistances(len(species))
        self._blocks = MicroBlocks(frames)
        self._counts = np.zeros((len(self._blocks), self._row), dtype=np.int64)
        self._modes = modes
        self._series = SeriesMeans(frames, modes.count)

    def add(self, frames: Frames) -> None:
        """Add the distances of the next piece."""
        positions, first = frames.positions, frames.first
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
        # torch counts 32-bit integers without copying them.
        counts = torch.bincount(torch.from_numpy(places.ravel()), minlength=len(parts) * self._row)
        self._counts[parts[0][0] : parts[-1][0] + 1] += counts.numpy().reshape(len(parts), self._row)

    def statistics(self) -> DistanceHistograms:
        """Return h(r) in blocks of several times the slowest correlation time."""
        per_sample = self._series.inefficiency() if self._modes.count else float(max(self._blocks.frames, 1))
        per_sample = min(per_sample, float(max(self._blocks.frames, 1)))
        by_kind = self._counts.reshape(len(self._blocks), len(self.kinds), self._bins + 1)
        histograms = {kind: self._histogram(by_kind[:, index], per_sample) for index, kind in enumerate(self.kinds)}
        return DistanceHistograms(self._histogram(by_kind.sum(axis=1), per_sample), histograms)

    def _histogram(self, counts: IntArray, per_sample: float) -> Histogram:
        edges = np.linspace(0.0, self._largest, self._bins + 1)
        inside = self._blocks.merged(counts[:, : self._bins], per_sample)
        return Histogram(edges, inside, int(counts[:, self._bins].sum()), "angstrom")


@dataclass(frozen=True, eq=False)
class DistanceComparison:
    """h(r) of run and reference.

    Attributes:
        all_pairs: Comparison for all pairs of atoms.
        by_kind: Comparisons by pair of elements, such as ``C-H``.
    """

    all_pairs: DistributionComparison
    by_kind: dict[str, DistributionComparison]


class Distances(Quantity[DistanceHistograms]):
    """h(r) of a molecule."""

    key = "h_of_r"
    statistics = DistanceHistograms
    absent: ClassVar = {"h_of_r": None, "h_of_r_by_pair": {}}

    def survey(self, species: IntArray) -> ModeSampler:
        """Return the sampler of the slow modes."""
        return ModeSampler(len(species))

    def collector(self, sample: Sample) -> DistanceCounter:
        """Return a collector of distances."""
        sampler = sample.surveys[self.key]
        assert isinstance(sampler, ModeSampler)
        return DistanceCounter(sample.species, sample.frames, sampler.modes())

    def compare(
        self, run: DistanceHistograms, reference: DistanceHistograms | None, sample: Sample
    ) -> QuantityComparison[DistanceComparison]:
        """Compare h(r) of all pairs and of each pair of elements."""
        assert reference is not None
        all_pairs = compare(run.all_pairs, reference.all_pairs)
        by_kind = {kind: compare(histogram, reference.by_kind[kind]) for kind, histogram in run.by_kind.items()}
        rows = _rows("h_of_r", "h(r)", all_pairs)
        for kind, comparison in by_kind.items():
            rows += _rows(f"h_of_r.{kind}", f"h(r) {kind}", comparison)
        return QuantityComparison(
            self.key,
            DistanceComparison(all_pairs, by_kind),
            rows,
            panels=[Panel("h_of_r", "h(r)", all_pairs, "Interatomic distance r", "h(r)")],
            plain={
                "h_of_r": all_pairs.as_dict(),
                "h_of_r_by_pair": {kind: comparison.as_dict() for kind, comparison in by_kind.items()},
            },
            highlights=[Highlight.of_difference(all_pairs.difference, "h(r) error, ∫|h \N{MINUS SIGN} h_ref| dr")],
            notes=_notes(all_pairs),
            figures={"h_of_r": FIGURE},
        )


def _rows(key: str, name: str, comparison: DistributionComparison) -> list[Observable]:
    return [
        Observable(key, f"{name} error", difference=comparison.difference),
        Observable(f"{key}.wasserstein", f"{name}, Wasserstein", difference=comparison.wasserstein),
    ]


def _notes(comparison: DistributionComparison) -> list[str]:
    notes = []
    for side, distribution in (("run", comparison.run), ("reference", comparison.reference)):
        if distribution.samples < 2:
            notes.append(
                f"the {side} contains fewer than two independent structures: no error bar and no verdict for h(r)"
            )
        if distribution.beyond > 0:
            notes.append(
                f"{distribution.beyond:.2%} of the distances of the {side} are beyond {distribution.edges[-1]:g} Å, "
                "outside h(r)"
            )
    return notes


def distance_histogram(positions: FloatArray, bins: int = BINS, largest: float = RANGE) -> Histogram:
    """Return h(r) of frames in memory, in blocks of several times the slowest correlation time.

    Args:
        positions: Positions of stable frames (frames, atoms, 3), angstrom.
        bins: Number of bins.
        largest: Upper edge of the histogram, angstrom.
    """
    species = np.zeros(positions.shape[1], dtype=np.int64)
    counter = DistanceCounter(species, len(positions), _modes(positions), bins, largest)
    counter.add(Frames(0, positions))
    return counter.statistics().all_pairs


def slowest_motion(positions: FloatArray) -> float:
    """Return the number of frames per independent structure for positions (frames, atoms, 3), angstrom."""
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
