import numpy as np
import pytest

from piwsl.analysis.quantities.energy_drift import energy_drift
from piwsl.analysis.quantities.temperature import temperature_statistics
from piwsl.errors import DataError
from piwsl.units import BOLTZMANN


def test_straight_line_in_its_units():
    times = np.arange(0.0, 20_000, 50)  # 20 ps in fs
    total = -1000 + 0.021 * times / 10_000  # 21 meV in 10 ps, 21 atoms
    found = energy_drift(times, total, atoms=21)
    assert found.per_10_ps.value == pytest.approx(1.0)
    assert found.per_10_ps.unit == "meV/atom/10 ps"
    assert found.per_ns.value == pytest.approx(100.0)
    assert found.fluctuation.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_error_of_the_drift_is_the_spread_of_drifts(runs, memory):
    times = np.arange(0.0, 100_000, 50)
    found = [
        energy_drift(times, 0.01 * runs.correlated(len(times), 1, memory, seed)[:, 0], atoms=10).per_10_ps
        for seed in range(60)
    ]
    spread = np.std([one.value for one in found])
    assert np.mean([one.uncertainty for one in found]) == pytest.approx(spread, rel=0.25)
    assert np.mean([one.value for one in found]) == pytest.approx(0, abs=3 * spread / np.sqrt(60))


def test_fluctuation_is_about_the_line(runs):
    times = np.arange(0.0, 50_000, 50)
    total = 1e-5 * times + 0.02 * runs.correlated(len(times), 1, 0.0, 1)[:, 0]
    assert energy_drift(times, total, atoms=10).fluctuation.value == pytest.approx(2.0, rel=0.1)


def test_two_rows_have_no_drift():
    with pytest.raises(DataError, match="at least three are needed"):
        energy_drift(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 3)


def canonical(temperature, atoms, rows, seed):
    """Kinetic energies of independent Maxwell-Boltzmann draws: a gamma distribution."""
    kinetic = np.random.default_rng(seed).gamma(1.5 * atoms, BOLTZMANN * temperature, rows)
    return kinetic / (1.5 * atoms * BOLTZMANN), kinetic


def test_canonical_temperature():
    found = temperature_statistics(*canonical(500.0, 21, 5000, seed=1), target=500.0)
    assert found.target_difference.agrees is True
    assert found.canonical_deviation == pytest.approx(500 * np.sqrt(2 / 63))
    assert found.deviation.value == pytest.approx(found.canonical_deviation, rel=0.05)
    assert found.mean.uncertainty == pytest.approx(found.canonical_deviation / np.sqrt(5000), rel=0.35)


def test_wrong_temperature_is_found():
    found = temperature_statistics(*canonical(600.0, 21, 500, seed=2), target=500.0)
    assert found.target_difference.agrees is False
    assert found.target_difference.measured.value == pytest.approx(100, abs=20)


def test_constant_energy_has_no_target():
    found = temperature_statistics(*canonical(300.0, 21, 500, seed=3), target=None)
    assert found.target_difference is None
    assert found.mean.value == pytest.approx(300, abs=15)


def test_no_rows():
    with pytest.raises(DataError, match="no rows"):
        temperature_statistics(np.array([]), np.array([]), 300.0)
