"""Error bars of correlated series by block averaging and bootstrap over blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.stats import t as student

from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.typing import FloatArray, IntArray

MICRO_BLOCKS = 1000  # number of short blocks, accumulated until the final block length is known
FEWEST_BLOCKS = 3  # smallest number of blocks for a verdict: about eight independent samples
MOST_BLOCKS = 200  # more blocks need memory without improving error bars
DRAWS = 400  # bootstrap resamples; error bars are accurate to 4 %
CONFIDENCE = 0.95
ROUNDING = 1e-12  # relative; smaller differences are rounding errors of float64 sums
SEED = 20240805  # fixed seed, so that equal data give equal error bars

Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Division of a series into consecutive blocks of nearly equal length.

    Attributes:
        edges: Frame indices (blocks + 1,) of the block edges, from 0 to the number of frames.
        samples: Number of independent samples in the whole series.
    """

    edges: IntArray
    samples: int

    def __len__(self) -> int:
        return len(self.edges) - 1

    @classmethod
    def automatic(cls, frames: int, per_sample: float) -> "Blocks":
        """Return blocks of length (2 N g^2)^(1/3), which balances statistical and systematic errors of the error bar.

        The rule is from Lee et al., Phys. Rev. E 83, 066706 (2011), for N frames and g frames per independent sample.
        """
        samples = max(int(frames / per_sample), 1) if frames else 0
        length = (2.0 * frames * per_sample**2) ** (1.0 / 3.0)
        count = min(int(frames / length) if frames else 1, MOST_BLOCKS)
        if samples >= 2:
            count = max(count, 2)
        return cls(np.linspace(0, frames, max(count, 1) + 1).astype(np.int64), samples)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return sums (blocks, ...) of values (frames, ...) over the frames of each block, float64."""
        return np.add.reduceat(np.asarray(values, dtype=np.float64), self.edges[:-1], axis=0)


class MicroBlocks:
    """Many short consecutive blocks, merged to blocks of the final length once the correlation time is known.

    Attributes:
        frames: Length of the series.
        edges: Frame indices (micro-blocks + 1,) of the edges.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        count = max(min(frames, MICRO_BLOCKS), 1)
        self.edges: IntArray = np.linspace(0, frames, count + 1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def parts(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield each micro-block that overlaps a piece, with start and stop within the piece."""
        block = int(np.searchsorted(self.edges, first, side="right")) - 1
        start = 0
        while start < count:
            stop = min(int(self.edges[block + 1]) - first, count)
            yield block, start, stop
            start, block = stop, block + 1

    def add(self, sums: FloatArray, values: FloatArray, first: int) -> None:
        """Add values (f, ...) of the frames from ``first`` on to the sums (micro-blocks, ...)."""
        parts = list(self.parts(first, len(values)))
        starts = [start for _, start, _ in parts]
        sums[parts[0][0] : parts[-1][0] + 1] += np.add.reduceat(values, starts, axis=0)

    def merged(self, sums: FloatArray | IntArray, per_sample: float) -> "BlockSums":
        """Merge sums (micro-blocks, ...) into blocks with edges as close as possible to those of `Blocks.automatic`."""
        blocks = Blocks.automatic(self.frames, per_sample)
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        nearest = np.searchsorted(middles, blocks.edges[:-1])
        return BlockSums(np.add.reduceat(np.asarray(sums, dtype=np.float64), nearest, axis=0), blocks.samples)


@lru_cache(maxsize=32)
def _draws(count: int, stream: int) -> FloatArray:
    """Return how often each of ``count`` blocks is drawn (draws, count), the same for all observables."""
    random = np.random.default_rng([SEED, stream])
    return np.asarray(random.multinomial(count, np.full(count, 1.0 / count), size=DRAWS), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Sums over blocks, such as counts or moments, from which statistics are computed.

    Attributes:
        sums: Sums (blocks, k).
        samples: Number of independent samples.
    """

    sums: FloatArray
    samples: int

    @property
    def decides(self) -> bool:
        """Whether there are enough blocks for a verdict. Fewer blocks do not determine their own noise."""
        return len(self.sums) >= FEWEST_BLOCKS

    @property
    def total(self) -> FloatArray:
        """Sums (k,) over all frames."""
        return np.asarray(self.sums.sum(axis=0))

    @property
    def has_error(self) -> bool:
        """Whether an error bar can be computed, which requires two independent samples."""
        return self.samples >= 2 and len(self.sums) >= 2

    def resampled(self, stream: int = 0) -> FloatArray:
        """Return totals (draws, k) of blocks drawn with replacement. Different streams are independent."""
        return np.asarray(_draws(len(self.sums), stream) @ self.sums)

    def deviations(self, statistic: Statistic, stream: int = 0) -> FloatArray:
        """Return resampled statistics (draws, ...) minus the statistic of all frames, corrected for few blocks."""
        count = len(self.sums)
        spread = statistic(self.resampled(stream)) - statistic(self.total)
        return np.asarray(spread * np.sqrt(count / (count - 1)))

    def halves(self) -> tuple[FloatArray, FloatArray] | None:
        """Return totals (k,) of the first and the second half of the blocks; None without two blocks."""
        if not self.has_error:
            return None
        middle = len(self.sums) // 2
        return self.sums[:middle].sum(axis=0), self.sums[middle:].sum(axis=0)

    def measure(self, statistic: Statistic, unit: str) -> Measurement:
        """Compute a scalar statistic of the totals with its bootstrap error."""
        value = float(statistic(self.total))
        error = float(np.std(self.deviations(statistic))) if self.has_error else None
        if error is not None and error < ROUNDING * abs(value):
            error = 0.0
        return Measurement(value, error, unit, self.samples)


def block_average(series: FloatArray, unit: str) -> Measurement:
    """Return the mean of a series (frames,) with the error from the spread of block means."""
    series = np.asarray(series, dtype=np.float64)
    blocks = Blocks.automatic(len(series), inefficiency(series))
    sums = BlockSums(np.stack([blocks.sums(series), np.diff(blocks.edges)], axis=1), blocks.samples)
    return sums.measure(lambda totals: np.asarray(totals[..., 0] / totals[..., 1]), unit)


def difference_of(run: BlockSums, reference: BlockSums, statistic: Statistic, unit: str) -> Difference:
    """Return the difference of a scalar statistic, run minus reference, with its error and noise limit."""
    of_run, of_reference = run.measure(statistic, unit), reference.measure(statistic, unit)
    halves = reference.halves()
    floor = None
    if halves is not None:
        floor = abs(float(statistic(halves[0]) - statistic(halves[1]))) * half_scale(run.samples, reference.samples)
    measured = difference(of_run, of_reference)
    if abs(measured.value) < ROUNDING * abs(of_reference.value):
        measured = replace(measured, value=0.0)
    limit = error_limit(measured, [(of_run, len(run.sums)), (of_reference, len(reference.sums))])
    if limit is not None:
        limit = max(limit, ROUNDING * abs(of_reference.value))
    return Difference(measured, limit, floor, run.decides and reference.decides)


def half_scale(run: int, reference: int) -> float:
    """Return the ratio of the noise between run and reference to the noise between halves of the reference.

    Variances are inversely proportional to the numbers of samples.

    Args:
        run: Number of independent samples of the run.
        reference: Number of independent samples of the reference.
    """
    return float(np.sqrt((1 / run + 1 / reference) / (4 / reference)))


def difference(run: Measurement, reference: Measurement) -> Measurement:
    """Return run minus reference, with errors added in quadrature; no error if either error is missing."""
    error = None
    if run.uncertainty is not None and reference.uncertainty is not None:
        error = float(np.hypot(run.uncertainty, reference.uncertainty))
    return Measurement(run.value - reference.value, error, run.unit, min(run.samples, reference.samples))


def error_limit(measured: Measurement, parts: Sequence[tuple[Measurement, int]]) -> float | None:
    """Return the 95 % noise limit of a difference, from Student's t with Welch's degrees of freedom.

    Args:
        measured: Difference with its error.
        parts: The two measurements, each with the number of blocks used for its error.
    """
    if measured.uncertainty is None:
        return None
    variances = [(float(part.uncertainty or 0.0) ** 2, blocks) for part, blocks in parts]
    total = sum(variance for variance, _ in variances)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(variance**2 / (blocks - 1) for variance, blocks in variances if variance > 0)
    return float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * measured.uncertainty
