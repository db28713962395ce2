"""Where series begin to be stationary: drifts are cut, noise is not."""

import numpy as np
import pytest

from piwsl.analysis.statistics.equilibration import equilibration
from tests.support.run_directories import correlated


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_stationary_series_are_kept_whole(memory):
    starts = [equilibration(list(correlated(400, 2, memory, seed).T)).start for seed in range(20)]
    assert starts.count(0) >= 19


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_a_decay_at_the_start_is_cut_where_it_has_ended(memory):
    noise = correlated(2000, 2, memory, seed=1)
    noise[:, 1] += 8 * np.exp(-np.arange(2000) / 100)
    found = equilibration(list(noise.T))
    assert 200 <= found.start <= 450  # 2 to 4.5 decay times
    assert found.series == 1
    assert found.shift == pytest.approx(noise[: found.start, 1].mean() - noise[found.start :, 1].mean())
    assert found.errors > 4
    assert found.settles


def test_a_drift_that_goes_on_does_not_settle():
    noise = correlated(1000, 1, 0.3, seed=2)[:, 0]
    found = equilibration([noise + np.linspace(0, 40, 1000)])
    assert found.samples < 5 or not found.settles


def test_few_rows_show_nothing():
    assert equilibration([np.arange(19.0)]) is None


def test_long_series_are_thinned():
    noise = correlated(50_000, 1, 0.0, seed=3)[:, 0]
    noise[:5000] += 3
    assert equilibration([noise]).start == pytest.approx(5000, abs=1300)
