import numpy as np
import pytest

from piwsl.analysis.statistics.survival import survival, survival_curve
from piwsl.errors import DataError

# Remission times in weeks of 21 leukemia patients with 6-MP (Freireich et al., Blood 21, 699, 1963): the example of
# textbooks, whose table of the estimator is below; True: relapse.
TIMES = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
BROKEN = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
TABLE = {6: (0.857, 0.076), 7: (0.807, 0.087), 10: (0.753, 0.096), 13: (0.690, 0.107), 16: (0.627, 0.114),
         22: (0.538, 0.128), 23: (0.448, 0.135)}  # fmt: skip


def test_the_table_of_the_textbooks():
    found = survival(TIMES, [bool(one) for one in BROKEN])
    assert found.times.tolist() == [0, *TABLE]
    assert found.probability[1:] == pytest.approx([value for value, _ in TABLE.values()], abs=6e-4)
    assert found.standard_error[1:] == pytest.approx([error for _, error in TABLE.values()], abs=6e-4)
    assert found.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert found.median() == 23
    low, high = found.band()
    assert (low <= found.probability).all()
    assert (high >= found.probability).all()
    assert low.min() > 0
    assert high.max() <= 1


def test_without_censoring_it_is_the_share_that_is_left_and_the_mean_is_the_mean():
    times = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    found = survival(times, [True] * 5)
    assert found.probability.tolist() == pytest.approx([1, 0.6, 0.4, 0.2, 0])
    mean = found.restricted_mean()
    assert mean.value == pytest.approx(times.mean())
    assert mean.uncertainty == pytest.approx(times.std() / np.sqrt(5))
    assert survival_curve(found).numbers["mean time until a break"][0].value == pytest.approx(2.8)


def test_the_restricted_mean_of_an_exponential_and_its_error():
    rng = np.random.default_rng(0)
    mean, end = 10.0, 20.0
    exact = mean * (1 - np.exp(-end / mean))
    pulls = []
    for _ in range(300):
        drawn = rng.exponential(mean, 40)
        watched = rng.uniform(15, 40, 40).clip(max=end)  # some are watched for a shorter time
        watched[0], drawn[0] = end, max(drawn[0], end)
        found = survival(np.minimum(drawn, watched), drawn < watched).restricted_mean()
        pulls.append((found.value - exact) / found.uncertainty)
    assert abs(np.mean(pulls)) < 0.35  # the first is always whole
    assert np.std(pulls) == pytest.approx(1, abs=0.15)


def test_none_broke():
    found = survival([100.0, 50.0], [False, False])
    assert (found.probability.tolist(), found.median()) == ([1.0], None)
    curve = survival_curve(found)
    assert curve.run.x.tolist() == [0, 0.1]
    assert curve.run.y.tolist() == [1, 1]
    assert curve.numbers["mean time within 0.1 ps"][0].uncertainty is None
    assert curve.notes == ("2 of 2 replicas were still stable at the end",)


@pytest.mark.parametrize(("times", "broken"), [([], []), ([-1.0], [True]), ([1.0], [True, False])])
def test_nonsense_is_refused(times, broken):
    with pytest.raises(DataError, match="survival"):
        survival(times, broken)
