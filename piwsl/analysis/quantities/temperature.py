"""Kinetic temperature of a run, compared with the thermostat."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from piwsl.analysis.quantity import Frames, Highlight, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import FEWEST_BLOCKS, Blocks, BlockSums, block_average, error_limit
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import BOLTZMANN

NO_ROWS = "no rows with temperatures"


@dataclass(frozen=True)
class TemperatureStatistics:
    """Kinetic temperature of a run.

    Attributes:
        mean, deviation: Mean and standard deviation, K.
        target: Temperature of the thermostat, K; None for NVE.
        target_difference: Mean minus target, with the noise limit; None for NVE.
        canonical_deviation: T sqrt(2 / degrees of freedom) at the target, K; None for NVE.
    """

    mean: Measurement
    deviation: Measurement
    target: float | None
    target_difference: Difference | None
    canonical_deviation: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "mean": self.mean.as_dict(),
            "deviation": self.deviation.as_dict(),
            "target": self.target,
            "difference": None if self.target_difference is None else self.target_difference.as_dict(),
            "canonical_deviation": self.canonical_deviation,
        }


def temperature_statistics(temperature: FloatArray, kinetic: FloatArray, target: float | None) -> TemperatureStatistics:
    """Compute mean and standard deviation of the temperature, and the values expected under a thermostat.

    Args:
        temperature: Temperature (rows,), K.
        kinetic: Kinetic energy (rows,), eV. With the temperature it determines the degrees of freedom.
        target: Temperature of the thermostat, K; None for NVE.

    Raises:
        DataError: There are no rows.
    """
    values = np.asarray(temperature, dtype=np.float64)
    if not len(values):
        raise DataError(NO_ROWS)
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
    decides = count >= FEWEST_BLOCKS
    limit = error_limit(measured, [(mean, count)])
    freedom = 2.0 * float(np.sum(kinetic)) / (BOLTZMANN * float(np.sum(values)))
    return TemperatureStatistics(
        mean, deviation, target, Difference(measured, limit, None, decides), target * float(np.sqrt(2.0 / freedom))
    )


class _TemperatureOfRows:
    """Measure the rows of the stable part of a run, without using frames."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def add(self, frames: Frames) -> None:
        """Ignore the frames."""

    def statistics(self) -> TemperatureStatistics | None:
        """Return the statistics; None if there are no rows."""
        thermo, run = self._sample.thermo, self._sample.run
        if thermo is None or run is None or not len(thermo.times):
            return None
        return temperature_statistics(thermo.temperature, thermo.kinetic, run.target_temperature)


class Temperature(Quantity[TemperatureStatistics]):
    """Mean temperature of a run with stored energies."""

    key = "temperature"
    statistics = TemperatureStatistics
    needs_frames = needs_reference = False
    absent: ClassVar = {"temperature": None}

    def collector(self, sample: Sample) -> _TemperatureOfRows | None:
        """Return a collector; None if the run has no energies."""
        return None if sample.thermo is None else _TemperatureOfRows(sample)

    def missing_note(self, sample: Sample) -> str | None:
        """Return a note on why there is no temperature, if the run has energies."""
        return None if sample.thermo is None else NO_ROWS

    def compare(
        self, run: TemperatureStatistics, reference: TemperatureStatistics | None, sample: Sample
    ) -> QuantityComparison[TemperatureStatistics]:
        """Compare the mean with the thermostat, if there is a thermostat."""
        expected, detail = None, "constant energy"
        if run.target is not None:
            expected = Measurement(run.target, 0.0, "K", run.mean.samples)
            detail = f"thermostat at {run.target:g} K"
        rows = [Observable("temperature", "Temperature", run.mean, expected, run.target_difference)]
        highlights = [Highlight(run.mean.text(), "temperature", detail)]
        return QuantityComparison(self.key, run, rows, plain={"temperature": run.as_dict()}, highlights=highlights)
