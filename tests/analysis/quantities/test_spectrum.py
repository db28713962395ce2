import numpy as np
import pytest

from piwsl.analysis.quantities.spectrum import PowerSpectrum, compare_spectra, longest_interval, peaks
from piwsl.errors import DataError
from piwsl.units import ACCELERATION, SPEED_OF_LIGHT

CO, H2 = np.array([6, 8]), np.array([1, 1])
MASSES = np.array([12.011, 15.999])


def diatomic(wavenumbers, frames, interval, seed=0, noise=0.0):
    """A molecule that turns slowly, drifts, and stretches as a sum of sines of random phases."""
    rng = np.random.default_rng(seed)
    times = interval * np.arange(frames)
    stretch = sum(
        0.02 * np.sin(2 * np.pi * SPEED_OF_LIGHT * wave * times + rng.uniform(0, 6.28)) for wave in wavenumbers
    )
    distance = 1.13 + stretch + noise * rng.normal(size=frames)
    angle = 2 * np.pi * times / 4000.0
    axis = np.stack([np.cos(angle), np.sin(angle), np.zeros(frames)], 1)
    first = -axis * (distance * MASSES[1] / MASSES.sum())[:, None]
    second = axis * (distance * MASSES[0] / MASSES.sum())[:, None]
    drift = np.outer(times, [1e-3, 0, 2e-3])
    return np.stack([first, second], 1) + drift[:, None]


def spectrum_of(positions, interval, species=CO, masses=MASSES, piece=1000, **options):
    found = PowerSpectrum(masses, species, interval, **options)
    for first in range(0, len(positions), piece):
        found.add(positions[first : first + piece], first)
    return found.histogram


def test_a_diatomic_stretches_at_its_frequency():
    """Rotation splits a band of positions by twice its frequency, here 8 1/cm, which is within the resolution."""
    bands = [one for one in peaks(spectrum_of(diatomic([2143.0], 30_000, 2.0), 2.0)) if one.position.value > 500]
    assert len(bands) == 1
    assert bands[0].position.value == pytest.approx(2143, abs=5)
    assert 10 < bands[0].width.value < 40
    assert bands[0].position.uncertainty < 2


@pytest.mark.slow
def test_the_frequency_is_that_of_the_potential():
    """Dynamics of H2 in a Morse potential at small amplitude, whose force constant is known."""
    epsilon, rho0 = 4.75, 0.7414 * 1.9426
    constant = 2 * epsilon * (rho0 / 0.7414) ** 2
    reduced = 1.008 / 2
    expected = np.sqrt(constant * ACCELERATION / reduced) / (2 * np.pi * SPEED_OF_LIGHT)
    interval, frames = 1.0, 20_000
    distance = np.empty(frames)
    x, v, h = 0.002, 0.0, 0.05
    for frame in range(frames):
        distance[frame] = 0.7414 + x
        for _ in range(round(interval / h)):
            v -= 0.5 * h * _pull(epsilon, rho0, x) * ACCELERATION / reduced
            x += h * v
            v -= 0.5 * h * _pull(epsilon, rho0, x) * ACCELERATION / reduced
    positions = np.zeros((frames, 2, 3))
    positions[:, 1, 2] = distance
    band = peaks(spectrum_of(positions, interval, H2, np.array([1.008, 1.008])))[0]
    assert band.position.value == pytest.approx(expected, abs=6)


def _pull(epsilon, rho0, x):
    exponent = np.exp(-rho0 / 0.7414 * x)
    return 2 * epsilon * rho0 / 0.7414 * exponent * (1 - exponent)


@pytest.mark.parametrize(("interval", "waves"), [(1.0, (800.0, 1600.0)), (4.0, (800.0, 3000.0))])
def test_powers_are_those_of_velocities_from_positions_too(interval, waves):
    """Two stretches of equal amplitude: power as the square of the frequency, from positions and from velocities."""
    positions = np.zeros((40_000, 2, 3))
    velocities = np.zeros_like(positions)
    times = interval * np.arange(len(positions))
    for wave in waves:
        omega = 2 * np.pi * SPEED_OF_LIGHT * wave
        for atom, share in ((0, MASSES[1]), (1, -MASSES[0])):
            positions[:, atom, 0] += share * 1e-3 * np.sin(omega * times)
            velocities[:, atom, 0] += share * 1e-3 * omega * np.cos(omega * times)
    for values, options in ((positions, {}), (velocities, {"velocities": True})):
        found = spectrum_of(values, interval, **options).distribution()
        width = found.edges[1] - found.edges[0]
        low = found.density[(found.centers > 700) & (found.centers < 900)].sum() * width
        high = found.density[np.abs(found.centers - waves[1]) < 100].sum() * width
        assert low + high == pytest.approx(1, abs=1e-3)
        assert high / low == pytest.approx((waves[1] / waves[0]) ** 2, rel=0.02)


@pytest.mark.slow
def test_pieces_make_no_difference_and_many_segments_are_added_up():
    positions = diatomic([1500.0], 900 * 836, 4.0, noise=0.01)
    whole = spectrum_of(positions[:30_000], 4.0, piece=30_000)
    parts = spectrum_of(positions[:30_000], 4.0, piece=777)
    assert np.allclose(whole.blocks.sums, parts.blocks.sums, rtol=1e-9)
    long = spectrum_of(positions, 4.0)
    assert 128 < len(long.blocks.sums) <= 256
    segments = len(positions) // 834
    total = sum(
        spectrum_of(positions[834 * i : 834 * (i + 1) + 1], 4.0).blocks.total.sum() for i in range(0, segments, 90)
    )
    assert long.blocks.total.sum() == pytest.approx(90 * total, rel=0.1)


def test_like_spectra_agree_and_shifted_ones_do_not():
    def noisy(wave, seed):
        return spectrum_of(diatomic([wave, 700.0], 40_000, 3.0, seed=seed, noise=0.01), 3.0)

    same = compare_spectra(noisy(2000.0, 1), noisy(2000.0, 2))
    assert same.difference.agrees
    other = compare_spectra(noisy(2000.0, 1), noisy(2100.0, 2))
    assert not other.difference.agrees
    positions = {name: pair for name, pair in same.numbers.items() if name.endswith("position")}
    pair = min(positions.values(), key=lambda one: abs(one[0].value - 2000))
    assert pair[0].value == pytest.approx(pair[1].value, abs=5)
    alone = compare_spectra(noisy(2000.0, 1), None)
    assert (alone.reference, alone.difference) == (None, None)


def test_frames_too_far_apart_are_refused():
    assert longest_interval(H2) == pytest.approx(4.5, abs=0.05)
    with pytest.raises(DataError, match=r"frames are 10 fs apart, but the fastest vibration needs one every 4\.5 fs"):
        PowerSpectrum(MASSES, H2, 10.0)
    PowerSpectrum(MASSES, CO, 6.0)


def test_a_short_run_has_no_segment():
    assert spectrum_of(diatomic([1000.0], 100, 2.0), 2.0) is None


def test_velocities_count_by_mass():
    """Two pairs with the same speeds, one sixteen times as heavy."""
    masses, interval = np.array([1.0, 1.0, 16.0, 16.0]), 1.0
    times = interval * np.arange(20_000)
    velocities = np.zeros((len(times), 4, 3))
    for atom, wave, sign in ((0, 900.0, 1), (1, 900.0, -1), (2, 2000.0, 1), (3, 2000.0, -1)):
        velocities[:, atom, 1] = sign * np.sin(2 * np.pi * SPEED_OF_LIGHT * wave * times)
    light, heavy = peaks(spectrum_of(velocities, interval, np.array([1, 1, 8, 8]), masses, velocities=True))
    assert (light.position.value, heavy.position.value) == pytest.approx((900, 2000), abs=5)
    found = spectrum_of(velocities, interval, np.array([1, 1, 8, 8]), masses, velocities=True).distribution()
    upper = found.centers > 1400
    assert found.density[upper].sum() / found.density[~upper].sum() == pytest.approx(16, rel=0.02)
