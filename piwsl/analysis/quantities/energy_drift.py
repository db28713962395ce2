"""Conservation of the total energy in a constant-energy run."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from piwsl.analysis.quantity import Frames, Highlight, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.autocorrelation import inefficiency
from piwsl.analysis.statistics.results import Measurement
from piwsl.analysis.statistics.uncertainty import Blocks, BlockSums
from piwsl.errors import DataError
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

MILLI = 1e3  # meV per eV
FEWEST_ROWS = 3


@dataclass(frozen=True)
class EnergyDrift:
    """Drift of the total energy of an NVE run.

    Attributes:
        per_10_ps: Slope of a linear fit to the total energy, meV/atom/10 ps.
        per_ns: Slope of the same fit, meV/atom/ns.
        fluctuation: Standard deviation from the fit, meV/atom.
    """

    per_10_ps: Measurement
    per_ns: Measurement
    fluctuation: Measurement

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "per_10_ps": self.per_10_ps.as_dict(),
            "per_ns": self.per_ns.as_dict(),
            "fluctuation": self.fluctuation.as_dict(),
        }


def energy_drift(times: FloatArray, total: FloatArray, atoms: int) -> EnergyDrift:
    """Fit a straight line to the total energy.

    The least-squares error of the slope is corrected for the correlation of the residuals.

    Args:
        times: Times (rows,), fs.
        total: Total energy (rows,), eV.
        atoms: Number of atoms.

    Raises:
        DataError: There are fewer than three rows.
    """
    if len(times) < FEWEST_ROWS:
        raise DataError(_too_few(len(times)))
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


class _DriftOfRows:
    """Measure the rows of the stable part of a run, without using frames."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def add(self, frames: Frames) -> None:
        """Ignore the frames."""

    def statistics(self) -> EnergyDrift | None:
        """Return the drift; None for fewer than three rows."""
        thermo = self._sample.thermo
        if thermo is None or len(thermo.times) < FEWEST_ROWS:
            return None
        return energy_drift(thermo.times, thermo.total, len(self._sample.species))


class EnergyConservation(Quantity[EnergyDrift]):
    """Drift and fluctuation of the total energy of a constant-energy run."""

    key = "energy_drift"
    statistics = EnergyDrift
    needs_frames = needs_reference = False
    absent: ClassVar = {"energy_drift": None}

    def collector(self, sample: Sample) -> _DriftOfRows | None:
        """Return a collector; None unless the run has constant energy."""
        return _DriftOfRows(sample) if _applies(sample) else None

    def missing_note(self, sample: Sample) -> str | None:
        """Return a note on why there is no drift. Without any rows, `Temperature` returns the note."""
        rows = 0 if sample.thermo is None else len(sample.thermo.times)
        return _too_few(rows) if _applies(sample) and rows else None

    def compare(
        self, run: EnergyDrift, reference: EnergyDrift | None, sample: Sample
    ) -> QuantityComparison[EnergyDrift]:
        """Return the drift without a comparison with the reference."""
        rows = [
            Observable("energy_drift.per_10_ps", "Total-energy drift", run.per_10_ps),
            Observable("energy_drift.per_ns", "Total-energy drift, per ns", run.per_ns),
            Observable("energy_fluctuation", "Total-energy fluctuation", run.fluctuation),
        ]
        drift = run.per_10_ps
        text = Measurement(drift.value, drift.uncertainty, "", 1).text()
        highlights = [Highlight(text, "energy drift", drift.unit)]
        return QuantityComparison(self.key, run, rows, plain={"energy_drift": run.as_dict()}, highlights=highlights)


def _applies(sample: Sample) -> bool:
    return sample.run is not None and sample.run.ensemble == "nve" and sample.thermo is not None


def _too_few(rows: int) -> str:
    return f"too few rows of energies for a drift: {rows}, at least three are needed"
