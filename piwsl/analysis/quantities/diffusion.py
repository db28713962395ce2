"""Mean square displacements of the elements of a periodic cell, and diffusion coefficients (Einstein relation)."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from piwsl.analysis.quantities.spectrum import frame_interval
from piwsl.analysis.quantity import FigureText, Frames, Observable, Quantity, QuantityComparison, Sample
from piwsl.analysis.scalar_quantity import mean_of_sums
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import BlockSums, difference_of
from piwsl.typing import FloatArray, IntArray
from piwsl.units import BOLTZMANN, MILLIPASCAL_SECOND, PICOSECOND

MOST_FRAMES = 4000  # largest number of stored frames
MOST_NUMBERS = 12_000_000  # largest number of stored coordinates (48 MB)
BLOCKS = 5
SHORTEST_FIT = 0.2  # fraction of the longest lag; shorter lags contain vibrations and ballistic motion
FEWEST = 20  # smallest number of frames in a block
UNIT = "angstrom^2/ps"
# Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004): the infinite system has a larger D, by kT xi / (6 pi eta L).
XI = 2.837297


@dataclass(frozen=True, eq=False)
class Displacements:
    """Mean square displacements of one element.

    Attributes:
        lags: Lag times (lags,), fs.
        blocks: Mean square displacements (blocks, lags), angstrom^2, averaged over atoms and time origins in each
            block.
    """

    lags: FloatArray
    blocks: FloatArray

    @property
    def window(self) -> tuple[float, float]:
        """Shortest and longest lag of the linear fit, fs."""
        return float(self.lags[self._fitted][0]), float(self.lags[-1])

    @property
    def sums(self) -> BlockSums:
        """Diffusion coefficients of the blocks, angstrom^2/ps, with a column of ones."""
        lags = self.lags[self._fitted] / PICOSECOND
        slopes = np.polyfit(lags, self.blocks[:, self._fitted].T, 1)[0]
        return BlockSums(np.stack([np.ones_like(slopes), slopes / 6], axis=1), len(slopes))

    @property
    def curve(self) -> Curve:
        """Mean over the blocks with its standard error, as a function of the lag in ps."""
        mean = self.blocks.mean(axis=0)
        error = self.blocks.std(axis=0, ddof=1) / np.sqrt(len(self.blocks))
        return Curve(self.lags / PICOSECOND, mean, mean - error, mean + error, len(self.blocks))

    @property
    def _fitted(self) -> IntArray:
        return np.flatnonzero(self.lags >= SHORTEST_FIT * self.lags[-1])


@dataclass(frozen=True, eq=False)
class DiffusionStatistics:
    """Mean square displacements of all elements.

    Attributes:
        by_element: Mean square displacements by chemical symbol.
        volume: Mean volume of the cell, angstrom^3; NaN in vacuum.
    """

    by_element: dict[str, Displacements]
    volume: float


class DisplacementRecorder:
    """Store evenly spaced frames of an unwrapped trajectory, without center-of-mass motion.

    Args:
        species: Atomic numbers (atoms,).
        frames: Number of frames in the trajectory.
        interval: Time between frames, fs.
        masses: Masses (atoms,), amu; by default the masses of the elements.
        most_frames: Largest number of stored frames.
    """

    def __init__(
        self,
        species: IntArray,
        frames: int,
        interval: float,
        masses: FloatArray | None = None,
        most_frames: int = MOST_FRAMES,
    ) -> None:
        most = max(min(most_frames, MOST_NUMBERS // (3 * len(species))), BLOCKS * FEWEST)
        self._each = max(-(-frames // most), 1)
        self._interval = interval * self._each
        self._species = species
        masses = atomic_masses[species] if masses is None else masses
        self._weights = masses / masses.sum()
        self._kept: list[FloatArray] = []
        self._volume = self._frames = 0.0

    def add(self, frames: Frames) -> None:
        """Add the next piece, with unwrapped positions."""
        self._frames += len(frames)
        self._volume += np.nan if frames.cells is None else float(np.abs(np.linalg.det(frames.cells)).sum())
        chosen = frames.positions[-frames.first % self._each :: self._each]
        center = np.einsum("i,fij->fj", self._weights, chosen)
        self._kept.append((chosen - center[:, None]).astype(np.float32))

    def statistics(self) -> DiffusionStatistics | None:
        """Return the displacements by element; None if there are too few frames."""
        positions = np.concatenate(self._kept)
        length = len(positions) // BLOCKS
        if length < FEWEST:
            return None
        lags = length // 2
        displacements = {}
        for number in np.unique(self._species):
            atoms = np.flatnonzero(self._species == number)
            blocks = [
                _mean_square(positions[block * length : (block + 1) * length, atoms], lags) for block in range(BLOCKS)
            ]
            displacements[chemical_symbols[int(number)]] = Displacements(
                self._interval * np.arange(lags), np.stack(blocks)
            )
        return DiffusionStatistics(displacements, self._volume / self._frames)


def _mean_square(positions: FloatArray, lags: int) -> FloatArray:
    """Return the mean square displacement (lags,) over atoms and time origins, from positions (frames, atoms, 3).

    It is a sum of squares minus twice the correlation, which is computed by a Fourier transform (Calandrini et al.,
    Collection SFN 12, 201 (2011)).
    """
    frames = len(positions)
    total = np.zeros(lags)
    starts = np.arange(frames, frames - lags, -1)
    for atom in range(positions.shape[1]):  # one atom at a time, to limit memory
        path = positions[:, atom].astype(np.float64)
        path -= path.mean(axis=0)
        transform = np.fft.rfft(path, 2 * frames, axis=0)
        correlation = np.fft.irfft((transform.real**2 + transform.imag**2).sum(axis=1))[:lags] / starts
        squares = np.concatenate([[0.0], np.cumsum((path**2).sum(axis=1))])
        ends = squares[frames - np.arange(lags)] + squares[-1] - squares[np.arange(lags)]
        total += ends / starts - 2 * correlation
    return np.asarray(total / positions.shape[1])


@dataclass(frozen=True)
class Diffusion:
    """Diffusion coefficient of an element, angstrom^2/ps; the reference has a value only if its frames have times."""

    element: str
    run: Measurement
    reference: Measurement | None
    difference: Difference | None


def compare_diffusion(element: str, run: Displacements, reference: Displacements | None) -> Diffusion:
    """Compare diffusion coefficients from linear fits to the mean square displacements of each block."""
    expected = None if reference is None else reference.sums
    return Diffusion(
        element,
        run.sums.measure(mean_of_sums, UNIT),
        None if expected is None else expected.measure(mean_of_sums, UNIT),
        None if expected is None else difference_of(run.sums, expected, mean_of_sums, UNIT),
    )


def displacement_curve(
    element: str, run: Displacements, reference: Displacements | None, difference: Difference | None
) -> CurveComparison:
    """Return mean square displacements as a function of time, with the fit window."""
    first, last = (time / PICOSECOND for time in run.window)
    return CurveComparison(
        f"msd.{element}",
        element,
        Axis("Time", "ps"),
        Axis("Mean square displacement", "Å²"),
        run.curve,
        None if reference is None else reference.curve,
        difference,
        notes=(f"the diffusion coefficient is fitted from {first:.3g} to {last:.3g} ps",),
    )


def finite_size_note(temperature: float, volume: float) -> str:
    """Return a note on the finite-size correction, which is not applied.

    Args:
        temperature: Temperature, K.
        volume: Volume of the cell, angstrom^3.
    """
    viscous = 6 * np.pi * MILLIPASCAL_SECOND * volume ** (1 / 3)
    share = BOLTZMANN * temperature * XI / viscous * PICOSECOND
    return (
        "diffusion coefficients are not corrected for finite size: in a liquid of viscosity eta (mPa s), the infinite "
        f"system has a larger value, by {share:.2g} Å²/ps / eta (Yeh and Hummer 2004); solids need no correction"
    )


class DiffusionByElement(Quantity[DiffusionStatistics]):
    """Mean square displacements and diffusion coefficients. Frames must have equal intervals."""

    key = "diffusion"
    statistics = DiffusionStatistics
    needs_reference = False

    def collector(self, sample: Sample) -> DisplacementRecorder | None:
        """Return a recorder of positions; None if the frames do not have equal intervals."""
        interval = frame_interval(sample.times)
        return (
            None
            if interval is None
            else DisplacementRecorder(sample.species, sample.frames, interval, sample.source.masses)
        )

    def missing_note(self, sample: Sample) -> str:
        """Return a note on what diffusion coefficients require."""
        return "too few frames for diffusion coefficients: at least 100 are needed"

    def compare(
        self, run: DiffusionStatistics, reference: DiffusionStatistics | None, sample: Sample
    ) -> QuantityComparison[tuple[Diffusion, ...]]:
        """Compare the coefficients if the frames of the reference have times."""
        coefficients, curves = [], []
        for element, displacements in run.by_element.items():
            expected = None if reference is None else reference.by_element.get(element)
            coefficients.append(compare_diffusion(element, displacements, expected))
            curves.append(displacement_curve(element, displacements, expected, coefficients[-1].difference))
        rows = [
            Observable(f"diffusion.{entry.element}", f"Diffusion of {entry.element}", entry.run, entry.reference,
                       entry.difference)
            for entry in coefficients
        ]  # fmt: skip
        notes = []
        if sample.temperature is not None and np.isfinite(run.volume):
            notes.append(finite_size_note(sample.temperature, run.volume))
        figures = {"msd": FigureText("Mean square displacements")}
        return QuantityComparison(self.key, tuple(coefficients), rows, curves, notes=notes, figures=figures)
