"""Conservation of energy and statistics of the temperature."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import Blocks, BlockSums, block_average, error_limit
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import BOLTZMANN, PICOSECOND

MILLI = 1e3  # meV per eV


@dataclass(frozen=True)
class EnergyDrift:
    """Change of the total energy of an NVE run.

    Attributes:
        per_10_ps: slope of a straight line through the total energy, meV/atom/10 ps.
        per_ns: the same slope, meV/atom/ns.
        fluctuation: standard deviation about the line, meV/atom.
    """

    per_10_ps: Measurement
    per_ns: Measurement
    fluctuation: Measurement

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "per_10_ps": self.per_10_ps.as_dict(),
            "per_ns": self.per_ns.as_dict(),
            "fluctuation": self.fluctuation.as_dict(),
        }


@dataclass(frozen=True)
class TemperatureStatistics:
    """Kinetic temperature of a run.

    Attributes:
        mean, deviation: K.
        target: of the thermostat, K; None for NVE.
        target_difference: mean minus target, with what noise explains; None for NVE.
        canonical_deviation: T sqrt(2 / degrees of freedom) at the target, K; None for NVE.
    """

    mean: Measurement
    deviation: Measurement
    target: float | None
    target_difference: Difference | None
    canonical_deviation: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": self.mean.as_dict(),
            "deviation": self.deviation.as_dict(),
            "target": self.target,
            "difference": None if self.target_difference is None else self.target_difference.as_dict(),
            "canonical_deviation": self.canonical_deviation,
        }


def energy_drift(times: FloatArray, total: FloatArray, atoms: int) -> EnergyDrift:
    """Fit a straight line to the total energy.

    The error of the slope is that of least squares, widened by the correlation of the residuals.

    Args:
        times: (rows,) fs.
        total: (rows,) total energy, eV.
        atoms: number of atoms.

    Raises:
        DataError: fewer than three rows.
    """
    if len(times) < 3:
        raise DataError(f"the energy has {len(times)} rows: a drift needs three at least")
    centered = np.asarray(times, dtype=np.float64) - np.mean(times)
    energy = np.asarray(total, dtype=np.float64) * MILLI / atoms
    spread = float(np.sum(centered**2))
    slope = float(np.sum(centered * (energy - energy.mean())) / spread)  # meV/atom/fs
    residual = energy - energy.mean() - slope * centered
    per_sample = inefficiency(residual)
    samples = int(len(times) / per_sample)
    variance = float(np.sum(residual**2)) / (len(times) - 2)
    error = float(np.sqrt(variance * per_sample / spread)) if samples > 2 else None

    def over(span: float, unit: str) -> Measurement:
        return Measurement(slope * span, None if error is None else error * span, unit, samples)

    blocks = Blocks.automatic(len(residual), inefficiency(residual**2))
    squares = BlockSums(np.stack([blocks.sums(residual**2), np.diff(blocks.edges)], axis=1), blocks.samples)
    fluctuation = squares.measure(lambda sums: np.asarray(np.sqrt(sums[..., 0] / sums[..., 1])), "meV/atom")
    return EnergyDrift(over(10 * PICOSECOND, "meV/atom/10 ps"), over(1000 * PICOSECOND, "meV/atom/ns"), fluctuation)


def temperature_statistics(temperature: FloatArray, kinetic: FloatArray, target: float | None) -> TemperatureStatistics:
    """Mean and spread of the temperature, and their values under a thermostat.

    Args:
        temperature: (rows,) K.
        kinetic: (rows,) kinetic energy, eV; with the temperature it gives the degrees of freedom.
        target: temperature of the thermostat, K; None for NVE.

    Raises:
        DataError: no rows.
    """
    values = np.asarray(temperature, dtype=np.float64)
    if not len(values):
        raise DataError("the temperature has no rows")
    mean = block_average(values, "K")
    shifted = values - mean.value
    blocks = Blocks.automatic(len(values), inefficiency(shifted, shifted**2))
    number = np.ones(len(values))
    sums = BlockSums(blocks.sums(np.stack([number, shifted, shifted**2], axis=1)), blocks.samples)
    deviation = sums.measure(
        lambda s: np.asarray(np.sqrt(np.maximum(s[..., 2] / s[..., 0] - (s[..., 1] / s[..., 0]) ** 2, 0.0))), "K"
    )
    if target is None:
        return TemperatureStatistics(mean, deviation, None, None, None)
    measured = Measurement(mean.value - target, mean.uncertainty, "K", mean.samples)
    count = len(Blocks.automatic(len(values), inefficiency(values)))
    limit = error_limit(measured, [(mean, count)])
    freedom = 2.0 * float(np.sum(kinetic)) / (BOLTZMANN * float(np.sum(values)))
    return TemperatureStatistics(
        mean, deviation, target, Difference(measured, limit, None), target * float(np.sqrt(2.0 / freedom))
    )
