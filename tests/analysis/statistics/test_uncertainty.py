import numpy as np
import pytest

from piwsl.analysis.statistics.autocorrelation import LONGEST_SERIES, SeriesMeans, autocorrelation_time, inefficiency
from piwsl.analysis.statistics.uncertainty import Blocks, BlockSums, MicroBlocks, block_average, difference_of


def mean_of(sums):
    return sums[..., 0] / sums[..., 1]


def block_sums(series):
    blocks = Blocks.automatic(len(series), inefficiency(series))
    return BlockSums(np.stack([blocks.sums(series), np.diff(blocks.edges)], axis=1), blocks.samples)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.98])
def test_autocorrelation_time_of_ar1(runs, memory):
    series = runs.correlated(100_000, 1, memory, seed=1)[:, 0]
    exact = 0.5 + memory / (1 - memory)
    assert autocorrelation_time(series) == pytest.approx(exact, rel=0.12)


@pytest.mark.parametrize("series", [np.full(100, 3.7), np.array([1.0]), np.array([])])
def test_series_without_motion_is_uncorrelated(series):
    assert autocorrelation_time(series) == 0.5


def test_oscillation_does_not_count_as_more_than_independent():
    assert inefficiency(np.sin(np.arange(1000) * 2.0)) == 1.0


def test_blocks_cover_every_frame_once(runs):
    series = runs.correlated(1003, 1, 0.8, seed=2)[:, 0]
    blocks = Blocks.automatic(len(series), 9.0)
    assert blocks.edges[0] == 0
    assert blocks.edges[-1] == 1003
    assert np.ptp(np.diff(blocks.edges)) <= 1
    assert np.diff(blocks.edges).min() > 3 * 9.0
    np.testing.assert_allclose(blocks.sums(series).sum(), series.sum())


@pytest.mark.slow
def test_block_average_knows_its_error(runs):
    """Over many series the stated error is the spread of the means, which theory knows."""
    memory, length = 0.9, 4000
    found = [block_average(runs.correlated(length, 1, memory, seed)[:, 0], "K") for seed in range(60)]
    exact = np.sqrt(2 * (0.5 + memory / (1 - memory)) / length)
    assert np.mean([one.uncertainty for one in found]) == pytest.approx(exact, rel=0.12)
    assert np.std([one.value for one in found]) == pytest.approx(exact, rel=0.25)
    assert found[0].unit == "K"
    assert np.mean([one.samples for one in found]) == pytest.approx(length / 19, rel=0.15)


def test_no_error_is_invented_for_one_sample():
    slow = block_average(np.linspace(0, 1, 50), "eV")
    assert slow.samples == 1
    assert slow.uncertainty is None
    assert slow.value == pytest.approx(0.5)
    single = block_average(np.array([2.0]), "eV")
    assert (single.value, single.uncertainty, single.samples) == (2.0, None, 1)


@pytest.mark.slow
def test_equal_distributions_agree_in_95_of_100_cases(runs):
    pairs = [
        [block_sums(runs.correlated(1500, 1, 0.8, 1000 + 2 * trial + side)[:, 0]) for side in (0, 1)]
        for trial in range(100)
    ]
    limits_hold = [
        abs(found.measured.value) <= found.limit for found in (difference_of(*p, mean_of, "") for p in pairs)
    ]
    assert 0.89 <= np.mean(limits_hold) <= 0.99


def test_shifted_mean_is_found(runs):
    reference = block_sums(runs.correlated(4000, 1, 0.8, 5)[:, 0])
    run = block_sums(runs.correlated(4000, 1, 0.8, 6)[:, 0] + 0.4)
    found = difference_of(run, reference, mean_of, "K")
    assert found.agrees is False
    assert found.measured.value == pytest.approx(0.4, abs=0.25)


def test_unknown_error_gives_no_verdict(runs):
    reference = block_sums(runs.correlated(1000, 1, 0.0, 5)[:, 0])
    found = difference_of(block_sums(np.linspace(0, 9, 30)), reference, mean_of, "K")
    assert found.measured.uncertainty is None
    assert found.agrees is None


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9, 0.995])
def test_long_series_are_judged_by_means_of_neighbors(runs, memory):
    """The inefficiency of an AR(1) process is (1 + memory) / (1 - memory)."""
    series = runs.correlated(4 * LONGEST_SERIES + 17, 1, memory, seed=1)[:, 0] + 1e4
    found = inefficiency(series)
    assert found == pytest.approx((1 + memory) / (1 - memory), rel=0.15)
    assert found == pytest.approx(max(2 * autocorrelation_time(series), 1.0), rel=0.05)
    pieces = SeriesMeans(len(series), 1)
    for first in range(0, len(series), 1000):
        pieces.add(series[first : first + 1000, None], first)
    assert pieces.inefficiency() == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(("frames", "per_sample"), [(1, 1.0), (7, 1.0), (1000, 3.0), (54_321, 40.0), (54_321, 1.0)])
def test_micro_blocks_are_merged_to_blocks_of_the_automatic_length(frames, per_sample):
    values = np.random.default_rng(0).normal(size=(frames, 2))
    micro = MicroBlocks(frames)
    sums = np.zeros((len(micro), 2))
    for first in range(0, frames, 1000):
        micro.add(sums, values[first : first + 1000], first)
    merged, blocks = micro.merged(sums, per_sample), Blocks.automatic(frames, per_sample)
    assert merged.samples == blocks.samples
    assert merged.sums.shape == (len(blocks), 2)
    np.testing.assert_allclose(merged.total, values.sum(axis=0))
    if frames <= 1000:
        np.testing.assert_allclose(merged.sums, blocks.sums(values))
    else:  # the edges are those of the nearest micro-blocks
        lengths = micro.merged(np.diff(micro.edges)[:, None], per_sample).sums[:, 0]
        np.testing.assert_allclose(np.cumsum(lengths), blocks.edges[1:], atol=frames / len(micro) / 2 + 1)
