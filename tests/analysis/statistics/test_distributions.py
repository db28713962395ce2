import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from piwsl.analysis.statistics.distributions import Histogram, compare
from piwsl.analysis.statistics.uncertainty import Blocks, BlockSums

EDGES = np.linspace(-6, 6, 121)


def histogram(values, per_sample=1.0):
    blocks = Blocks.automatic(len(values), per_sample)
    counts = [np.histogram(values[a:b], EDGES)[0] for a, b in zip(blocks.edges[:-1], blocks.edges[1:], strict=True)]
    return Histogram(EDGES, BlockSums(np.array(counts, dtype=float), blocks.samples), 0, "angstrom")


def gaussian(seed, shift=0.0, size=4000):
    return np.random.default_rng(seed).normal(shift, 1.0, size)


def test_equal_and_disjoint():
    same = compare(histogram(gaussian(1)), histogram(gaussian(1)))
    assert same.difference.measured.value == 0
    assert same.overlap.value == 1
    assert same.difference.limit > 0  # both sides are noisy, each in its own way
    apart = compare(histogram(np.full(100, -3.05)), histogram(np.full(100, 3.05)))
    assert apart.difference.measured.value == pytest.approx(2)
    assert apart.overlap.value == pytest.approx(0)


def test_difference_of_two_gaussians_is_that_of_theory():
    found = compare(histogram(gaussian(2, 0.5, 400_000)), histogram(gaussian(3, 0.0, 400_000)))
    assert found.difference.measured.value == pytest.approx(2 * (2 * norm.cdf(0.25) - 1), abs=0.01)
    assert found.difference.agrees is False


@pytest.mark.slow
def test_noise_is_not_taken_for_a_difference():
    found = [
        compare(histogram(gaussian(10 + k, size=1000)), histogram(gaussian(500 + k, size=1000))) for k in range(60)
    ]
    found = [one.difference for one in found]
    limits_hold = [one.measured.value <= one.limit for one in found]
    assert 0.88 <= np.mean(limits_hold) <= 1.0
    spread = np.std([one.measured.value for one in found])
    assert np.mean([one.measured.uncertainty for one in found]) == pytest.approx(spread, rel=0.35)


def test_small_shift_is_found():
    found = compare(histogram(gaussian(4, 0.15, 20_000)), histogram(gaussian(5, 0.0, 20_000)))
    assert found.difference.agrees is False


def test_floor_is_the_difference_between_the_halves_of_the_reference():
    """A reference that differs from itself is no measure of small differences."""
    drifting = histogram(np.concatenate([np.full(512, -1.05), np.full(512, 1.05)]))
    assert len(drifting.blocks.sums) % 2 == 0
    found = compare(histogram(np.full(1024, 1.05)), drifting).difference
    assert found.measured.value == pytest.approx(1)
    # 2 between halves; between wholes of equal length the variance is half as large
    assert found.floor == pytest.approx(2 / np.sqrt(2))
    assert found.agrees is True


def test_floor_of_a_good_reference_is_plain_noise():
    """As large as the difference of equal distributions, whatever the lengths, and below its limit."""
    for size in (1000, 4000, 16_000):
        found = [compare(histogram(gaussian(k, size=size)), histogram(gaussian(900 + k))).difference for k in range(8)]
        expected = np.mean([one.measured.value for one in found])
        assert np.mean([one.floor for one in found]) == pytest.approx(expected, rel=0.15)


def test_one_sample_gives_no_verdict():
    found = compare(histogram(gaussian(7, size=20), per_sample=20.0), histogram(gaussian(8)))
    assert found.run.error is None
    assert found.difference.measured.uncertainty is None
    assert found.difference.limit is None
    assert found.difference.agrees is None


def binned(mean, width, seed, values=40_000):
    edges = np.linspace(-6, 6, 601)
    drawn = np.random.default_rng(seed).normal(mean, width, (40, values // 40))
    counts = np.stack([np.histogram(block, edges)[0] for block in drawn]).astype(float)
    return Histogram(edges, BlockSums(counts, values), 0, "angstrom"), drawn.ravel()


@pytest.mark.parametrize(("mean", "width"), [(0.3, 1.0), (0.0, 1.2), (0.0, 1.0)])
def test_wasserstein_distance_is_that_of_scipy(mean, width):
    (ours, first), (theirs, second) = binned(mean, width, 3), binned(0.0, 1.0, 5)
    found = compare(ours, theirs).wasserstein
    assert found.measured.value == pytest.approx(wasserstein_distance(first, second), abs=1e-3)
    assert found.measured.unit == "angstrom"
    assert found.agrees is (mean == 0.0 and width == 1.0)


@pytest.mark.slow
def test_wasserstein_distance_of_a_shift_is_the_shift():
    (ours, _), (theirs, _) = binned(0.5, 1.0, 3), binned(0.0, 1.0, 4)
    found = compare(ours, theirs).wasserstein.measured
    assert found.value == pytest.approx(0.5, abs=0.02)
    repeats = [compare(binned(0.5, 1.0, k)[0], binned(0.0, 1.0, 100 + k)[0]) for k in range(30)]
    spread = np.std([one.wasserstein.measured.value for one in repeats])
    assert found.uncertainty == pytest.approx(spread, rel=0.4)
