import tracemalloc

import mdtraj
import numpy as np
import pytest
from scipy.stats import maxwell

from piwsl.analysis.quantities.distances import distance_histogram, slowest_motion


def counted(positions):
    """Counts of all frames (500,), and how many distances are beyond."""
    found = distance_histogram(positions)
    return found.blocks.total, found.beyond


def test_h_of_r_equals_mdtraj_and_numpy(runs):
    positions = runs.shaking(3000, seed=1)
    trajectory = mdtraj.Trajectory(positions.astype(np.float32) / 10, runs.topology_of(runs.ETHANOL.numbers))
    pairs = np.array(np.triu_indices(9, 1)).T
    distances = 10 * mdtraj.compute_distances(trajectory, pairs, periodic=False)
    expected, edges = np.histogram(distances, bins=500, range=(0, 10), density=True)
    found = distance_histogram(positions).distribution()
    np.testing.assert_allclose(found.edges, edges, atol=1e-9)
    assert np.abs(found.density - expected).sum() * 0.02 < 1e-3  # float32 at the edges of the bins
    assert found.density.sum() * 0.02 == pytest.approx(1)


def test_every_pair_counts_once_and_no_atom_with_itself(runs):
    counts, beyond = counted(runs.shaking(50, seed=2))
    assert counts.sum() == 50 * 36
    assert counts[0] == 0
    assert beyond == 0


def test_two_atoms_at_a_fixed_distance():
    positions = np.zeros((7, 2, 3))
    positions[:, 1, 2] = 1.23
    found = distance_histogram(positions).distribution()
    assert np.flatnonzero(found.density).tolist() == [61]
    assert found.density[61] == pytest.approx(50)


def test_no_periodic_images():
    """A vacuum run may carry a box; atoms further apart than half of it stay where they are."""
    positions = np.array([[[0.0, 0, 0], [9.01, 0, 0]]])
    counts, _ = counted(positions)
    assert np.flatnonzero(counts).tolist() == [450]


def test_distances_beyond_the_range_are_counted_apart():
    positions = np.array([[[0.0, 0, 0], [3.01, 0, 0], [14.0, 0, 0]]])
    counts, beyond = counted(positions)
    assert (counts.sum(), beyond) == (1, 2)
    assert distance_histogram(positions).distribution().beyond == pytest.approx(2 / 3)


def test_far_from_the_origin_nothing_is_lost(runs):
    positions = runs.shaking(200, seed=3)
    near, _ = counted(positions)
    far, _ = counted(positions + 1e5)
    assert np.abs(near - far).sum() <= 4


def test_gaussian_pair_follows_maxwell():
    random = np.random.default_rng(4)
    positions = random.normal(scale=0.8, size=(200_000, 2, 3))
    found = distance_histogram(positions).distribution()
    expected = np.diff(maxwell.cdf(found.edges, scale=0.8 * np.sqrt(2))) / 0.02
    assert np.abs(found.density - expected).sum() * 0.02 < 0.03
    inside = expected > 0.05
    scaled = (found.density - expected)[inside] / found.error[inside]
    assert np.std(scaled) == pytest.approx(1, abs=0.2)  # error bars are as large as the errors


def test_memory_is_bounded(runs):
    positions = np.tile(runs.shaking(100, seed=5).astype(np.float32), (300, 1, 1))
    tracemalloc.start()
    distance_histogram(positions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # all distances at once would be 4 MB times several copies in float64, 36 pairs here


def test_slow_motion_is_not_hidden_by_fast_ones(runs):
    """A slow two-state motion of one atom among fast vibrations sets the number of samples."""
    positions = runs.shaking(20_000, seed=6, memory=0.0)
    slow = runs.correlated(20_000, 1, 0.98, seed=7)[:, 0]
    direction = positions[:, 8] - positions[:, 0]
    positions[:, 8] += 0.3 * slow[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    exact = 2 * (0.5 + 0.98 / 0.02)
    assert slowest_motion(positions) == pytest.approx(exact, rel=0.3)
    assert slowest_motion(runs.shaking(5000, seed=8, memory=0.0)) < 1.5


def test_one_frame_has_no_error():
    found = distance_histogram(np.random.default_rng(0).normal(size=(1, 5, 3))).distribution()
    assert found.error is None
    assert found.samples == 1
