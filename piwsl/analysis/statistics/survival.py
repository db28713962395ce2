"""Survival of replicas, some of which are still stable at their end: the estimator of Kaplan and Meier."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import Measurement
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND


@dataclass(frozen=True, eq=False)
class Survival:
    """Probability of being stable, constant between the times at which replicas broke.

    Attributes:
        times: (k + 1,) fs, 0 and each time at which some broke.
        probability: (k + 1,) from each time to the next.
        at_risk, broken: (k,) replicas that were watched until then, and that broke then.
        longest: fs, of any replica.
        replicas: Their number.
    """

    times: FloatArray
    probability: FloatArray
    at_risk: FloatArray
    broken: FloatArray
    longest: float
    replicas: int

    @property
    def standard_error(self) -> FloatArray:
        """(k + 1,) of the probability (Greenwood 1926); 0 where none are left."""
        relative = np.sqrt(np.cumsum(np.where(np.isfinite(self._terms), self._terms, 0.0)))
        return np.concatenate([[0.0], self.probability[1:] * relative])

    def band(self) -> tuple[FloatArray, FloatArray]:
        """One standard error below and above, made on the scale log(-log S), so that it stays between 0 and 1.

        Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (1980). Without an error, where all or
        none are left, low and high are the probability itself.
        """
        low, high = self.probability.copy(), self.probability.copy()
        is_open = (self.probability > 0) & (self.probability < 1)
        inside, error = self.probability[is_open], self.standard_error[is_open]
        shift = np.exp(error / (inside * np.abs(np.log(inside))))
        low[is_open], high[is_open] = inside**shift, inside ** (1 / shift)
        return low, high

    def restricted_mean(self) -> Measurement:
        """Mean time until a break within the longest time that was watched, fs; exact where the last one broke then."""
        ends = np.append(self.times[1:], self.longest)
        areas = self.probability * (ends - self.times)
        later = np.cumsum(areas[::-1])[::-1][1:]  # under the curve from each break on
        finite = np.isfinite(self._terms)
        error = float(np.sqrt((later[finite] ** 2 * self._terms[finite]).sum()))
        return Measurement(float(areas.sum()), error if self.broken.sum() else None, "fs", self.replicas)

    def median(self) -> float | None:
        """Time until half have broken, fs; None where fewer have."""
        below = np.flatnonzero(self.probability <= 0.5)
        return float(self.times[below[0]]) if len(below) else None

    @property
    def _terms(self) -> FloatArray:
        """(k,) what each break adds to the relative variance; infinite where none are left."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.broken / (self.at_risk * (self.at_risk - self.broken)))


def survival(times: Sequence[float], broken: Sequence[bool]) -> Survival:
    """Survival of replicas (Kaplan and Meier, J. Am. Stat. Assoc. 53, 457, 1958).

    Args:
        times: fs, until each broke, or until it was watched no longer.
        broken: Whether it broke then.

    Raises:
        DataError: There are none, or a time is negative.
    """
    ends, breaks = np.asarray(times, dtype=np.float64), np.asarray(broken, dtype=bool)
    if not len(ends) or len(ends) != len(breaks) or (ends < 0).any():
        raise DataError("survival: needs a time of 0 fs or more for each of at least one replica")
    events = np.unique(ends[breaks])
    at_risk = np.array([(ends >= event).sum() for event in events], dtype=np.float64)
    counts = np.array([(ends[breaks] == event).sum() for event in events], dtype=np.float64)
    left = np.cumprod(1 - counts / at_risk) if len(events) else np.zeros(0)
    steps = np.concatenate([[0.0], events])
    return Survival(steps, np.concatenate([[1.0], left]), at_risk, counts, float(ends.max()), len(ends))


def survival_curve(estimate: Survival) -> CurveComparison:
    """Return the curve that is drawn, with its mean and median, in ps."""
    low, high = estimate.band()
    ends = [estimate.longest] if estimate.longest > estimate.times[-1] else []
    times = np.append(estimate.times, ends) / PICOSECOND
    repeat = np.append(np.arange(len(estimate.times)), [len(estimate.times) - 1] * len(ends)).astype(np.int64)
    curve = Curve(times, estimate.probability[repeat], low[repeat], high[repeat], estimate.replicas)
    numbers: dict[str, tuple[Measurement | None, Measurement | None]] = {}
    whole = round(estimate.replicas - float(estimate.broken.sum()))
    name = "mean time until a break" if not whole else f"mean time within {estimate.longest / PICOSECOND:g} ps"
    numbers[name] = (estimate.restricted_mean(), None)
    median = estimate.median()
    if median is not None:
        numbers["median time until a break"] = (Measurement(median, None, "fs", estimate.replicas), None)
    note = f"{whole} of {estimate.replicas} replicas were still whole at their end"
    axes = Axis("Time", "ps"), Axis("Replicas that are whole", "")
    return CurveComparison("survival", "Survival", *axes, curve, numbers=numbers, is_steps=True, notes=(note,))
