"""Mean square displacements: a random walk of known diffusion, and atoms that stay where they are."""

import numpy as np
import pytest

from piwsl.analysis.quantities.diffusion import (
    DisplacementRecorder,
    Displacements,
    compare_diffusion,
    displacement_curve,
    finite_size_note,
)
from piwsl.analysis.quantity import Frames

INTERVAL = 50.0  # fs


def displacements_of(positions, species, piece=333, **limits):
    recorder = DisplacementRecorder(species, len(positions), INTERVAL, **limits)
    for first in range(0, len(positions), piece):
        recorder.add(Frames(first, positions[first : first + piece]))
    statistics = recorder.statistics()
    return {} if statistics is None else statistics.by_element


def walk(frames, atoms, coefficient, seed=0):
    """Of atoms that diffuse by ``coefficient``, angstrom^2/ps."""
    step = np.sqrt(2 * coefficient * INTERVAL / 1000)
    return np.cumsum(np.random.default_rng(seed).normal(scale=step, size=(frames, atoms, 3)), axis=0)


def test_a_random_walk_diffuses_as_it_should():
    species = np.array([3] * 100 + [92] * 100)
    positions = np.concatenate([walk(3000, 100, 0.5), walk(3000, 100, 0.02, seed=1)], axis=1)
    found = displacements_of(positions, species)
    for element, expected in (("Li", 0.5), ("U", 0.02)):
        coefficient = compare_diffusion(element, found[element], None).run
        assert coefficient.unit == "angstrom^2/ps"
        assert abs(coefficient.value - expected) < 4 * coefficient.uncertainty
        assert coefficient.uncertainty < 0.1 * expected
        assert coefficient.samples == 5


@pytest.mark.slow
def test_error_bars_hold_what_they_say():
    """Of 40 walks about two in three lie within one standard error of five blocks."""
    pulls = []
    for seed in range(40):
        found = displacements_of(walk(1000, 60, 0.3, seed), np.array([3] * 60))["Li"]
        coefficient = compare_diffusion("Li", found, None).run
        pulls.append((coefficient.value * 60 / 59 - 0.3) / coefficient.uncertainty)  # of 60, one moves with the center
    assert abs(np.mean(pulls)) < 0.6
    assert 0.4 < np.mean(np.abs(pulls) < 1) < 0.85


def test_like_walks_agree_and_unlike_do_not():
    species = np.array([3] * 60)
    one, other, faster = (
        displacements_of(walk(2000, 60, rate, seed), species)["Li"] for rate, seed in ((0.3, 1), (0.3, 2), (0.6, 3))
    )
    assert compare_diffusion("Li", one, other).difference.agrees
    assert not compare_diffusion("Li", faster, other).difference.agrees


def test_displacements_are_what_they_are_by_definition():
    species = np.array([1, 8])
    positions = walk(200, 2, 0.3)
    found = displacements_of(positions, species)
    center = (1.008 * positions[:, 0] + 15.999 * positions[:, 1]) / 17.007
    for atom, element in enumerate(("H", "O")):
        local = positions[:, atom] - center
        for block in range(5):
            path = local[40 * block : 40 * (block + 1)]
            for lag in (0, 1, 7, 19):
                expected = ((path[lag:] - path[: 40 - lag]) ** 2).sum(1).mean()
                assert found[element].blocks[block, lag] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert np.allclose(found["H"].lags, INTERVAL * np.arange(20))


def test_atoms_that_vibrate_do_not_diffuse_and_a_drift_of_all_is_no_diffusion():
    rng = np.random.default_rng(4)
    positions = rng.normal(scale=0.1, size=(2000, 20, 3)) + 0.05 * np.arange(2000)[:, None, None]
    coefficient = compare_diffusion("Si", displacements_of(positions, np.array([14] * 20))["Si"], None).run
    assert abs(coefficient.value) < 1e-5


def test_long_runs_are_thinned():
    species = np.array([3] * 50)
    found = displacements_of(walk(4003, 50, 0.5), species, most_frames=500)["Li"]
    assert found.lags[1] == 9 * INTERVAL
    coefficient = compare_diffusion("Li", found, None).run
    assert abs(coefficient.value - 0.5) < 4 * coefficient.uncertainty


def test_too_few_frames_give_nothing():
    assert displacements_of(walk(99, 5, 0.5), np.array([3] * 5)) == {}
    assert displacements_of(walk(100, 5, 0.5), np.array([3] * 5)) != {}


def test_the_window_is_shown_and_the_correction_named():
    found = Displacements(1000.0 * np.arange(11), np.ones((5, 11)) * np.arange(11))
    curve = displacement_curve("Li", found, None, None)
    assert curve.notes == ("the diffusion coefficient is fitted from 2 to 10 ps",)
    assert curve.run.x[-1] == 10
    assert found.sums.total[1] / 5 == pytest.approx(1 / 6)
    # kT xi / (6 pi eta L) for 300 K, 1 mPa s and 20 angstrom is 3.12e-10 m^2/s.
    assert "by 0.031 Å²/ps / eta" in finite_size_note(300.0, 8000.0)
