"""Autocorrelation times, including those of series that do not fit into memory."""

import numpy as np

from piwsl.typing import FloatArray, IntArray

WINDOW = 5.0  # Sokal's window: the autocorrelation is summed up to this many autocorrelation times
SHIFTS = 20  # iterations of the correction for the mean, more than needed for convergence
LONGEST_SERIES = 65_536  # largest number of points used for autocorrelation times


def autocorrelation_time(series: FloatArray) -> float:
    """Return the integrated autocorrelation time of a series, in frames; 0.5 for independent frames.

    The sum 1/2 + rho(1) + rho(2) + ... is cut at the first lag beyond five times its own value (Madras and Sokal, J.
    Stat. Phys. 50, 109 (1988)). Relative to its own mean, a series shorter than its correlation time appears
    uncorrelated. The correlation is corrected for this bias (Wolff, Comput. Phys. Commun. 156, 143 (2004), eq. 49), so
    that a drift counts as one sample.

    Args:
        series: Series (frames,) at equal intervals.
    """
    values = np.asarray(series, dtype=np.float64)
    count = len(values)
    values = values - values.mean() if count else values
    if count < 2 or float(np.abs(values).max()) < 1e-12:
        return 0.5
    transform = np.fft.rfft(values, 2 * count)
    covariance = np.fft.irfft(np.abs(transform) ** 2)[:count] / np.arange(count, 0, -1)
    correlation = covariance[: max(count // 2, 1)] / covariance[0]
    times = np.cumsum(correlation) - 0.5
    beyond = np.arange(len(times)) >= WINDOW * times
    window = int(np.argmax(beyond)) if beyond.any() else len(times) - 1
    time = float(times[window])
    for _ in range(SHIFTS):
        shift = 2 * time / count
        time = min((float(times[window]) + 0.5 + (window + 1) * shift) / (1 + shift) - 0.5, count / 2)
    return max(time, 0.5)


def inefficiency(*series: FloatArray) -> float:
    """Return the frames per independent sample: twice the longest autocorrelation time of the series, at least 1.

    Long series are replaced by means of neighboring frames to limit memory. This does not change the variance of the
    mean, which is variance times inefficiency divided by length.
    """
    return max(1.0, *(_inefficiency(np.asarray(column, dtype=np.float64)) for column in series))


def _inefficiency(series: FloatArray) -> float:
    if len(series) <= LONGEST_SERIES:
        return 2.0 * autocorrelation_time(series)
    means = SeriesMeans(len(series), 1)
    means.add(series[:, None], 0)
    return means.inefficiency()


class SeriesMeans:
    """Series of known length; long series are stored as means of neighboring frames.

    Args:
        frames: Length of the series.
        columns: Number of series.
    """

    def __init__(self, frames: int, columns: int) -> None:
        self._frames = frames
        self._each = max(-(-frames // LONGEST_SERIES), 1)
        self._sums = np.zeros((-(-frames // self._each), columns))
        self._squares = np.zeros(columns)
        self._origin: FloatArray | None = None  # preserves the precision of series far from zero

    def add(self, values: FloatArray, first: int) -> None:
        """Add values (f, columns) of the frames from ``first`` on."""
        if self._origin is None:
            self._origin = np.array(values[0], dtype=np.float64)
        shifted = values - self._origin
        starts, cells = cell_starts(first, len(values), self._each)
        self._sums[cells] += np.add.reduceat(shifted, starts, axis=0)
        self._squares += (shifted**2).sum(axis=0)

    def inefficiency(self) -> float:
        """Return the frames per independent sample for the column with the longest correlation time."""
        if self._each == 1:
            return inefficiency(*self._sums.T)
        counts = np.full(len(self._sums), float(self._each))
        counts[-1] = self._frames - self._each * (len(counts) - 1)
        means = self._sums / counts[:, None]
        variance = self._squares / self._frames - (self._sums.sum(axis=0) / self._frames) ** 2
        ratios = np.divide(means.var(axis=0), variance, out=np.zeros_like(variance), where=variance > 0)
        inefficiencies = [
            self._each * ratio * 2.0 * autocorrelation_time(column)
            for ratio, column in zip(ratios, means.T, strict=True)
        ]
        return float(max(1.0, *inefficiencies))


def cell_starts(first: int, count: int, each: int) -> tuple[IntArray, IntArray]:
    """Return the starts of cells of ``each`` frames in a piece of frames from ``first`` on, and the cell numbers."""
    cells = np.arange(first // each, (first + count - 1) // each + 1)
    return np.maximum(cells * each - first, 0), cells
