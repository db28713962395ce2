"""Vibrations of one trajectory: from its velocities where it holds them, else from its positions."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses

from piwsl.md.analysis.frames.frame_source import FrameSource
from piwsl.md.analysis.motion.spectrum import PowerSpectrum, longest_interval
from piwsl.md.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.md.analysis.statistics.distributions import Histogram
from piwsl.md.analysis.statistics.uncertainty import BlockSums
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Vibrations:
    """What the velocities of a trajectory say.

    Attributes:
        spectrum: their power by wavenumber.
        lags: (lags,) fs.
        correlation: sums of products of velocities by lag, weighted by mass, segment by segment.
    """

    spectrum: Histogram
    lags: FloatArray
    correlation: BlockSums

    @property
    def curve(self) -> Curve:
        """The velocity autocorrelation, 1 at the start, with its standard error."""
        values = _normalised(self.correlation.total)
        low = high = None
        if self.correlation.has_error:
            error = self.correlation.deviations(_normalised).std(axis=0)
            low, high = values - error, values + error
        return Curve(self.lags, values, low, high, self.correlation.samples)


class VibrationCounter:
    """Collects the vibrations of the first ``frames`` frames of a source."""

    def __init__(self, source: FrameSource, frames: int) -> None:
        self._source, self._frames = source, frames
        interval = frame_interval(source.times)
        self._spectrum: PowerSpectrum | None = None
        if interval is not None and interval <= longest_interval(source.species):
            masses = atomic_masses[source.species]
            has_velocities = source.read_velocities is not None
            self._spectrum = PowerSpectrum(masses, source.species, interval, velocities=has_velocities)

    def add(self, positions: FloatArray, first: int) -> None:
        """Positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        if self._spectrum is not None and self._source.read_velocities is None:
            self._spectrum.add(positions, first)

    def vibrations(self) -> Vibrations | None:
        """None where frames have no equal intervals, too long ones, or end before one segment."""
        if self._spectrum is None:
            return None
        if self._source.read_velocities is not None:
            for first, velocities in self._source.velocities(self._frames):
                self._spectrum.add(velocities, first)
        histogram, correlation = self._spectrum.histogram, self._spectrum.correlation
        if histogram is None or correlation is None:
            return None
        return Vibrations(histogram, *correlation)


def correlation_curve(run: Vibrations, reference: Vibrations | None) -> CurveComparison:
    """The velocity autocorrelation over that of the reference; their difference is that of the spectra."""
    return CurveComparison(
        "vacf",
        "Velocity autocorrelation",
        Axis("Time", "fs"),
        Axis("Autocorrelation of velocities, by mass", ""),
        run.curve,
        None if reference is None else reference.curve,
    )


def frame_interval(times: FloatArray | None) -> float | None:
    """Time between frames, fs; None where they have no times, or not at equal intervals."""
    if times is None or len(times) < 2:
        return None
    steps = np.diff(times)
    interval = float(steps.mean())
    return interval if interval > 0 and np.abs(steps - interval).max() < 1e-3 * interval else None


def _normalised(sums: FloatArray) -> FloatArray:
    return np.asarray(sums / sums[..., :1])
