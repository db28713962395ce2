"""Vibrational power spectrum and velocity autocorrelation.

The power spectrum of mass-weighted velocities is the Fourier transform of their autocorrelation function
(Wiener-Khinchin). If a trajectory contains only positions, velocities are finite differences. Their attenuation at each
frequency is known and corrected; the correction is exact if frames are closer than half the shortest period.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks, peak_widths

from piwsl.analysis.quantity import Frames, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.distributions import Histogram, compare
from piwsl.analysis.statistics.results import Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums
from piwsl.errors import DataError
from piwsl.trajectories.frame_source import FrameSource
from piwsl.typing import FloatArray, IntArray
from piwsl.units import PICOSECOND, SPEED_OF_LIGHT

RESOLUTION = 10.0  # 1/cm; also the bin width
LARGEST = 4500.0  # 1/cm; nothing vibrates faster than H2
FASTEST_WITH_HYDROGEN = 3700.0  # 1/cm; above the stretches of C-H, N-H and O-H
FASTEST_WITHOUT = 2400.0  # 1/cm; above triple bonds
MOST_SEGMENTS = 256  # largest number of stored sums; neighboring sums are merged beyond it
PROMINENT = 0.05  # fraction of the highest peak
SAME_PEAK = 60.0  # 1/cm; largest difference between matching peaks of run and reference


def longest_interval(species: IntArray) -> float:
    """Return the longest interval between frames that resolves the fastest vibration of a molecule, fs."""
    fastest = FASTEST_WITH_HYDROGEN if (np.asarray(species) == 1).any() else FASTEST_WITHOUT
    return 0.5 / (fastest * SPEED_OF_LIGHT)


def shortest_segment() -> float:
    """Return the length of a segment that the resolution requires, fs."""
    return 1 / (RESOLUTION * SPEED_OF_LIGHT)


class PowerSpectrum:
    """Accumulate the power spectra of segments long enough for the resolution, with one segment in memory.

    Args:
        masses: Masses (atoms,), amu.
        species: Atomic numbers (atoms,).
        interval: Time between frames, fs.
        velocities: Whether `add` receives velocities instead of positions.

    Raises:
        DataError: Frames are too far apart for the fastest vibration.
    """

    def __init__(self, masses: FloatArray, species: IntArray, interval: float, velocities: bool = False) -> None:
        longest = longest_interval(species)
        if interval > longest:
            raise DataError(
                f"no vibrational spectrum: frames are {interval:g} fs apart, but the fastest vibration needs one every "
                f"{longest:.1f} fs: run with a shorter trajectory interval"
            )
        self._masses = np.asarray(masses, dtype=np.float64)
        self._frames = int(np.ceil(shortest_segment() / interval))
        self._window = np.hanning(self._frames + 1)[:-1]
        self._padded = 1 << (4 * self._frames - 1).bit_length()
        waves = np.fft.rfftfreq(self._padded, interval) / SPEED_OF_LIGHT
        self.edges = np.arange(0.0, min(waves[-1], LARGEST), RESOLUTION)
        self._bins = np.searchsorted(self.edges, waves, side="right") - 1
        self._inside = (self._bins >= 0) & (self._bins < len(self.edges) - 1) & (waves < self.edges[-1])
        self._interval = None if velocities else interval
        # A finite difference is the mean velocity over an interval, attenuated by sin(x) / x, x = omega interval / 2.
        self._weights = np.ones_like(waves) if velocities else np.sinc(waves * SPEED_OF_LIGHT * interval) ** -2
        self._last: FloatArray | None = None
        self._lags = interval * np.arange(self._frames // 2)
        # Attenuation of products at each lag by the window.
        self._damping = np.fft.irfft(np.abs(np.fft.rfft(self._window, self._padded)) ** 2)[: len(self._lags)]
        self._sums: list[FloatArray] = []
        self._each = self._added = 0
        self._waiting: list[FloatArray] = []
        self._held = 0

    def add(self, positions: FloatArray, first: int) -> None:
        """Add positions (or velocities) (f, atoms, 3) of the frames from ``first`` on."""
        values = np.asarray(positions, dtype=np.float64)
        if self._interval is not None:
            before = values[:0] if self._last is None else self._last
            self._last = values[-1:].copy()
            values = np.diff(np.concatenate([before, values]), axis=0) / self._interval
        self._waiting.append(values)
        self._held += len(values)
        while self._held >= self._frames:
            joined = np.concatenate(self._waiting)
            self._take(joined[: self._frames])
            self._waiting, self._held = [joined[self._frames :]], len(joined) - self._frames

    @property
    def histogram(self) -> Histogram | None:
        """Return the power in wavenumber bins by block; None without a complete segment."""
        if not self._sums:
            return None
        blocks = np.stack(self._sums)[:, : len(self.edges) - 1]
        return Histogram(self.edges, BlockSums(blocks, len(blocks)), 0, "1/cm")

    @property
    def correlation(self) -> tuple[FloatArray, BlockSums] | None:
        """Return the lags (lags,), fs, up to half a segment, and the velocity autocorrelation by block, not normalized.

        The result is None without a complete segment.
        """
        if not self._sums:
            return None
        blocks = np.stack(self._sums)[:, len(self.edges) - 1 :]
        return self._lags, BlockSums(blocks, len(blocks))

    def _take(self, segment: FloatArray) -> None:
        # Overall translation is not a vibration.
        center = (self._masses[:, None] * segment).sum(1, keepdims=True) / self._masses.sum()
        moved = (segment - center) * self._window[:, None, None]
        power = np.zeros(self._padded // 2 + 1)
        for atom, mass in enumerate(self._masses):  # one atom at a time, to limit memory
            transform = np.fft.rfft(moved[:, atom], self._padded, axis=0)
            power += mass * (transform.real**2 + transform.imag**2).sum(1)
        power *= self._weights
        binned = np.bincount(self._bins[self._inside], weights=power[self._inside], minlength=len(self.edges) - 1)
        correlation = np.fft.irfft(power)[: len(self._lags)] / self._damping
        self._keep(np.concatenate([binned, correlation]))

    def _keep(self, power: FloatArray) -> None:
        """Store the sums of a segment; if there are too many, merge neighboring sums."""
        if self._added % max(self._each, 1) == 0 or not self._sums:
            if len(self._sums) == MOST_SEGMENTS:
                self._sums = [first + second for first, second in zip(self._sums[::2], self._sums[1::2], strict=True)]
                self._each = 2 * max(self._each, 1)
            self._sums.append(power)
        else:
            self._sums[-1] = self._sums[-1] + power
        self._added += 1


@dataclass(frozen=True)
class Peak:
    """A band of a spectrum.

    Attributes:
        position: Center of mass of the band above half height, 1/cm.
        height: Height in the normalized spectrum, cm.
        width: Width at half height, 1/cm.
    """

    position: Measurement
    height: Measurement
    width: Measurement


def peaks(spectrum: Histogram) -> tuple[Peak, ...]:
    """Return the bands with a prominence of at least a twentieth of the highest peak, by ascending wavenumber."""
    distribution = spectrum.distribution()
    centers, density = distribution.centers, distribution.density
    places, _ = find_peaks(density, prominence=PROMINENT * density.max())
    bins, _, left, right = peak_widths(density, places, rel_height=0.5)
    bands = []
    for place, width, start, stop in zip(places, bins, left, right, strict=True):
        inside = np.arange(int(np.floor(start)), int(np.ceil(stop)) + 1).clip(0, len(density) - 1)
        inside = np.unique(inside)

        def center(totals: FloatArray, inside: IntArray = inside) -> FloatArray:
            part = totals[..., inside]
            return np.asarray((part * centers[inside]).sum(-1) / part.sum(-1))

        def height(totals: FloatArray, place: int = int(place)) -> FloatArray:
            return np.asarray(spectrum.density(totals)[..., place])

        samples = distribution.samples
        bands.append(
            Peak(
                spectrum.blocks.measure(center, "1/cm"),
                spectrum.blocks.measure(height, "cm"),
                Measurement(float(width) * RESOLUTION, None, "1/cm", samples),
            )
        )
    return tuple(bands)


def compare_spectra(run: Histogram, reference: Histogram | None) -> CurveComparison:
    """Compare normalized spectra, with a table of their bands."""
    difference = None
    if reference is not None:
        bins = min(len(run.edges), len(reference.edges)) - 1
        run, reference = _first_bins(run, bins), _first_bins(reference, bins)
        difference = compare(run, reference).difference
    numbers: dict[str, tuple[Measurement | None, Measurement | None]] = {}
    reference_bands = peaks(reference) if reference is not None else ()
    for number, band in enumerate(peaks(run), start=1):
        near = [
            candidate
            for candidate in reference_bands
            if abs(candidate.position.value - band.position.value) <= SAME_PEAK
        ]
        match = min(near, key=lambda candidate: abs(candidate.position.value - band.position.value), default=None)
        for what in ("position", "height", "width"):
            pair = (getattr(band, what), None if match is None else getattr(match, what))
            numbers[f"band {number}, {what}"] = pair
    samples = run.blocks.samples
    return CurveComparison(
        "spectrum",
        "Vibrational spectrum",
        Axis("Wavenumber", "1/cm"),
        Axis("Power of mass-weighted velocities, area 1", "cm"),
        Curve.of(run.distribution()),
        None if reference is None else Curve.of(reference.distribution()),
        difference,
        numbers,
        notes=(f"resolution {RESOLUTION:g} 1/cm; mean of {samples} segments" if samples > 1 else "one segment alone",),
    )


def _first_bins(histogram: Histogram, bins: int) -> Histogram:
    blocks = BlockSums(histogram.blocks.sums[:, :bins], histogram.blocks.samples)
    return Histogram(histogram.edges[: bins + 1], blocks, histogram.beyond, histogram.unit)


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Vibrational spectrum and velocity autocorrelation of a trajectory.

    Attributes:
        spectrum: Power by wavenumber.
        lags: Lag times (lags,), fs.
        correlation: Mass-weighted sums of products of velocities by lag and segment.
    """

    spectrum: Histogram
    lags: FloatArray
    correlation: BlockSums

    @property
    def curve(self) -> Curve:
        """Velocity autocorrelation, normalized to 1 at lag 0, with its standard error."""
        values = _normalized(self.correlation.total)
        low = high = None
        if self.correlation.has_error:
            error = self.correlation.deviations(_normalized).std(axis=0)
            low, high = values - error, values + error
        return Curve(self.lags, values, low, high, self.correlation.samples)


class VibrationCounter:
    """Accumulate the vibrations in the first ``frames`` frames of a source."""

    def __init__(self, source: FrameSource, frames: int) -> None:
        self._source, self._frames = source, frames
        interval = frame_interval(source.times)
        self._spectrum: PowerSpectrum | None = None
        if interval is not None and interval <= longest_interval(source.species):
            has_velocities = source.read_velocities is not None
            self._spectrum = PowerSpectrum(source.masses, source.species, interval, velocities=has_velocities)

    def add(self, frames: Frames) -> None:
        """Add the next piece."""
        if self._spectrum is not None and self._source.read_velocities is None:
            self._spectrum.add(frames.positions, frames.first)

    def statistics(self) -> Vibrations | None:
        """Return the vibrations; None without equal and sufficiently short intervals, or without a complete segment."""
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
    """Compare the velocity autocorrelations. The difference is computed only for the spectra."""
    return CurveComparison(
        "vacf",
        "Velocity autocorrelation",
        Axis("Time", "fs"),
        Axis("Autocorrelation of velocities, by mass", ""),
        run.curve,
        None if reference is None else reference.curve,
    )


def frame_interval(times: FloatArray | None) -> float | None:
    """Return the interval between frames, fs; None without times or without equal intervals."""
    if times is None or len(times) < 2:
        return None
    steps = np.diff(times)
    interval = float(steps.mean())
    return interval if interval > 0 and np.abs(steps - interval).max() < 1e-3 * interval else None


def _normalized(sums: FloatArray) -> FloatArray:
    return np.asarray(sums / sums[..., :1])


class VibrationalSpectrum(Quantity[Vibrations]):
    """Vibrational spectrum and velocity autocorrelation, from velocities or closely spaced frames."""

    key = "spectrum"
    statistics = Vibrations
    needs_reference = False

    def collector(self, sample: Sample) -> VibrationCounter:
        """Return a collector of the vibrations."""
        return VibrationCounter(sample.source, sample.frames)

    def missing_note(self, sample: Sample) -> str:
        """Return a note on what a spectrum requires."""
        return (
            f"no vibrational spectrum: it needs frames every {longest_interval(sample.species):.1f} fs, "
            f"for longer than {shortest_segment() / PICOSECOND:.1f} ps: run with a shorter trajectory interval"
        )

    def compare(
        self, run: Vibrations, reference: Vibrations | None, sample: Sample
    ) -> QuantityComparison[CurveComparison]:
        """Compare the spectra if the frames of the reference are close enough."""
        spectrum = compare_spectra(run.spectrum, None if reference is None else reference.spectrum)
        rows = []
        if spectrum.difference is not None:
            rows.append(Observable(spectrum.key, spectrum.name, difference=spectrum.difference))
        return QuantityComparison(self.key, spectrum, rows, (spectrum, correlation_curve(run, reference)))
