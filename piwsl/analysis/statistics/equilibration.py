"""Detection of the stationary part of series. Earlier frames are not samples of the ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.typing import FloatArray

CANDIDATES = 41  # number of starts tried, from the first row to the middle
GAIN = 1.2  # smallest increase of independent samples for rows to be skipped
DISTINCT = 4.0  # standard errors by which skipped rows must differ from the others
FEWEST_ROWS = 20  # smallest length of a series in which a drift can be detected
LONGEST = 20_000  # rows; longer series are thinned


@dataclass(frozen=True)
class Equilibration:
    """Stationary part of several series from the same run.

    Attributes:
        start: First stationary row; 0 without a drift.
        series: Index of the series with the largest drift, or None.
        shift: Mean before the start minus mean after it, in the unit of this series.
        errors: Absolute shift in standard errors.
        samples: Number of independent samples after the start, in the series with the fewest.
        settles: Whether the stationary part begins in the first half.
    """

    start: int
    series: int | None
    shift: float
    errors: float
    samples: float
    settles: bool


def equilibration(series: Sequence[FloatArray]) -> Equilibration | None:
    """Find the start that leaves the most independent samples (Chodera, J.

    Chem. Theory Comput. 12, 1799 (2016)). The number of independent samples after a start is the minimum over all
    series. Because noise alone shifts the optimal start, rows are skipped only if this gives at least a fifth more
    samples and if the mean of a series over the skipped rows differs by four standard errors from its mean over the
    other rows.

    Args:
        series: Series (rows,) at equal intervals.

    Returns:
        None for fewer than twenty rows.
    """
    rows = len(series[0])
    if rows < FEWEST_ROWS:
        return None
    each = -(-rows // LONGEST)
    columns = [np.asarray(values, dtype=np.float64)[::each] for values in series]
    count = len(columns[0])
    starts = np.unique(np.linspace(0, count // 2, CANDIDATES).astype(np.int64))
    samples = np.array([min((count - start) / inefficiency(values[start:]) for values in columns) for start in starts])
    best = int(np.argmax(samples))
    start = int(starts[best])
    drifts = [_drift(values, start) for values in columns] if start else []
    if not drifts or samples[best] < GAIN * samples[0] or max(abs(errors) for _, errors in drifts) < DISTINCT:
        return Equilibration(0, None, 0.0, 0.0, float(samples[0]), True)
    worst = int(np.argmax([abs(errors) for _, errors in drifts]))
    shift, errors = drifts[worst]
    return Equilibration(start * each, worst, shift, abs(errors), float(samples[best]), best < len(starts) - 1)


def _drift(values: FloatArray, start: int) -> tuple[float, float]:
    """Return the mean before a start minus the mean after it, and the ratio to its standard error."""
    before, after = values[:start], values[start:]
    shift = float(before.mean() - after.mean())
    per_sample = inefficiency(after)
    error = float(after.std() * np.sqrt(per_sample / len(after) + per_sample / max(len(before), per_sample)))
    return shift, shift / error if error > 0 else (0.0 if shift == 0 else np.inf)
