"""Kaplan-Meier estimate of the survival of replicas, some of which are still stable at the end."""

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
    """Probability that a replica is stable, a step function of time.

    Attributes:
        times: Start of each step (k + 1,), fs: 0 and each time at which replicas broke.
        probability: Probability (k + 1,) from each time to the next.
        at_risk, broken: Numbers of replicas (k,) observed until each break, and broken at that time.
        longest: Longest observed time of any replica, fs.
        replicas: Number of replicas.
    """

    times: FloatArray
    probability: FloatArray
    at_risk: FloatArray
    broken: FloatArray
    longest: float
    replicas: int

    @property
    def standard_error(self) -> FloatArray:
        """Standard error (k + 1,) of the probability (Greenwood 1926); 0 if no replicas are left."""
        relative = np.sqrt(np.cumsum(np.where(np.isfinite(self._terms), self._terms, 0.0)))
        return np.concatenate([[0.0], self.probability[1:] * relative])

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the band of one standard error, computed on the scale log(-log S) so that it stays between 0 and 1.

        See Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (1980). If all or no replicas are
        left, there is no error, and both limits equal the probability.
        """
        low, high = self.probability.copy(), self.probability.copy()
        is_open = (self.probability > 0) & (self.probability < 1)
        inside, error = self.probability[is_open], self.standard_error[is_open]
        shift = np.exp(error / (inside * np.abs(np.log(inside))))
        low[is_open], high[is_open] = inside**shift, inside ** (1 / shift)
        return low, high

    def restricted_mean(self) -> Measurement:
        """Return the mean time until a break within the longest observed time, fs; exact if the last replica broke."""
        ends = np.append(self.times[1:], self.longest)
        areas = self.probability * (ends - self.times)
        later = np.cumsum(areas[::-1])[::-1][1:]  # area under the curve after each break
        finite = np.isfinite(self._terms)
        error = float(np.sqrt((later[finite] ** 2 * self._terms[finite]).sum()))
        return Measurement(float(areas.sum()), error if self.broken.sum() else None, "fs", self.replicas)

    def median(self) -> float | None:
        """Return the time until half of the replicas have broken, fs; None if fewer have broken."""
        below = np.flatnonzero(self.probability <= 0.5)
        return float(self.times[below[0]]) if len(below) else None

    @property
    def _terms(self) -> FloatArray:
        """Return the contribution (k,) of each break to the relative variance; infinite if no replicas are left."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.broken / (self.at_risk * (self.at_risk - self.broken)))


def survival(times: Sequence[float], broken: Sequence[bool]) -> Survival:
    """Estimate the survival of replicas (Kaplan and Meier, J. Am. Stat. Assoc. 53, 457, 1958).

    Args:
        times: Time until each replica broke, or until its end, fs.
        broken: Whether each replica broke.

    Raises:
        DataError: There are no replicas, or a time is negative.
    """
    ends, breaks = np.asarray(times, dtype=np.float64), np.asarray(broken, dtype=bool)
    if not len(ends) or len(ends) != len(breaks) or (ends < 0).any():
        raise DataError("survival needs at least one replica, each with a time of 0 fs or more")
    events = np.unique(ends[breaks])
    at_risk = np.array([(ends >= event).sum() for event in events], dtype=np.float64)
    counts = np.array([(ends[breaks] == event).sum() for event in events], dtype=np.float64)
    left = np.cumprod(1 - counts / at_risk) if len(events) else np.zeros(0)
    steps = np.concatenate([[0.0], events])
    return Survival(steps, np.concatenate([[1.0], left]), at_risk, counts, float(ends.max()), len(ends))


def survival_curve(estimate: Survival) -> CurveComparison:
    """Return the survival curve for plotting, with mean and median, in ps."""
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
    note = f"{whole} of {estimate.replicas} replicas were still stable at the end"
    axes = Axis("Time", "ps"), Axis("Stable replicas", "")
    return CurveComparison("survival", "Survival", *axes, curve, numbers=numbers, is_steps=True, notes=(note,))
