"""Where a series begins to be stationary: frames from before are no samples of the ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.typing import FloatArray

CANDIDATES = 41  # starts that are tried, from the first row to the middle
GAIN = 1.2  # more independent samples at least, for rows to be left out
DISTINCT = 4.0  # standard errors by which the rows that are left out differ from the others
FEWEST_ROWS = 20  # of a series in which a drift can be seen
LONGEST = 20_000  # rows; longer series are thinned


@dataclass(frozen=True)
class Equilibration:
    """Stationary part of some series that belong together.

    Attributes:
        start: First row of it; 0 where there is no drift.
        series: Index of the series that drifts most, or None.
        shift: Mean of the rows before less that of the rows after, in the unit of this series.
        errors: The same in standard errors.
        samples: Independent samples after the start, of the series with the fewest.
        settles: Whether the stationary part begins in the first half.
    """

    start: int
    series: int | None
    shift: float
    errors: float
    samples: float
    settles: bool


def equilibration(series: Sequence[FloatArray]) -> Equilibration | None:
    """Find the start that leaves the most independent samples (Chodera, J. Chem. Theory Comput. 12, 1799 (2016)).

    The number of independent samples from a start on is the smallest of all series. Noise alone moves this start, so
    rows are left out only where this makes at least a fifth more samples, and where the mean of a series over them
    differs by four standard errors from that over the others.

    Args:
        series: Each (rows,), at equal intervals.

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
    """Return the mean before a start less that after it, and the same over its standard error."""
    before, after = values[:start], values[start:]
    shift = float(before.mean() - after.mean())
    per_sample = inefficiency(after)
    error = float(after.std() * np.sqrt(per_sample / len(after) + per_sample / max(len(before), per_sample)))
    return shift, shift / error if error > 0 else (0.0 if shift == 0 else np.inf)
