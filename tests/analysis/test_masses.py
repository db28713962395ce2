"""The analysis uses the masses of the run, such as those of deuterium."""

import numpy as np
import pytest

from piwsl.analysis import Reference, analyze, read_run
from piwsl.analysis.quantities.shape import gyration_radius
from piwsl.analysis.quantities.spectrum import VibrationCounter
from piwsl.analysis.quantity import Frames
from piwsl.analysis.reference_statistics import read_reference_statistics
from piwsl.errors import RunDirectoryError
from piwsl.trajectories.frame_source import FrameSource

HEAVY = [12.011] * 2 + [15.999] + [2.014] * 6


def system(masses):
    return {"name": "ethanol", "species": [6, 6, 8, 1, 1, 1, 1, 1, 1], "masses": masses}


@pytest.fixture
def reference(runs) -> Reference:
    return Reference.of_frames("reference", runs.ETHANOL.numbers, runs.shaking(400, 1), np.arange(400.0))


def gyration(analysis):
    return next(row for row in analysis.rows if row.key == "shape.radius_of_gyration").cells[0]


@pytest.mark.slow
def test_structure_is_weighted_by_the_masses_of_the_run_on_both_sides(runs, reference, tmp_path):
    positions = runs.shaking(400, 2)
    heavy = runs.write_run(tmp_path / "heavy", positions, system=system(HEAVY))
    plain = runs.write_run(tmp_path / "plain", positions)
    found = gyration(analyze(heavy, reference=reference, progress=False))
    assert found.run.value == pytest.approx(gyration_radius(positions, np.array(HEAVY)).mean(), abs=1e-5)
    assert found.agrees
    light = gyration(analyze(plain, reference=reference, progress=False))
    assert light.run.value == pytest.approx(gyration_radius(positions, runs.ETHANOL.get_masses()).mean(), abs=1e-5)
    assert found.run.value - light.run.value > 0.02


@pytest.mark.slow
def test_saved_statistics_keep_their_masses_and_this_is_said(runs, reference, tmp_path):
    heavy = runs.write_run(tmp_path / "heavy", runs.shaking(400, 2), system=system(HEAVY))
    reference.save_statistics(tmp_path / "saved.npz")
    analysis = analyze(heavy, reference=tmp_path / "saved.npz", progress=False)
    assert gyration(analysis).agrees
    assert any("weighted by the masses of reference" in note for note in analysis.groups[0].members[0].notes)
    analyze(heavy, reference=reference, save_reference=tmp_path / "own.npz", progress=False)
    assert read_reference_statistics(tmp_path / "own.npz").weights == pytest.approx(HEAVY)


def test_velocities_are_weighted_by_the_masses_of_the_run(runs):
    """An atom that oscillates counts by its mass."""
    times = np.arange(16000.0)
    positions = np.repeat(runs.ETHANOL.positions[None], len(times), axis=0)
    positions[:, 3, 0] += 0.1 * np.sin(2 * np.pi * times / 10)
    positions[:, 0, 0] += 0.1 * np.sin(2 * np.pi * times / 20)
    powers = []
    for masses in (None, np.array(HEAVY)):
        source = FrameSource.of_array(runs.ETHANOL.numbers, positions, times)
        source = FrameSource(source.species, source.frames, source.times, source.read, own_masses=masses)
        counter = VibrationCounter(source, len(times))
        for first, piece in source.pieces():
            counter.add(Frames(first, piece))
        vibrations = counter.statistics()
        assert vibrations is not None
        total = vibrations.correlation.total
        powers.append(total[0] if total.ndim == 1 else total[..., 0])

    def power(masses):
        """At twice the frequency the square of the velocity is fourfold; the center of mass is at rest."""
        shares = masses * (1 - masses / masses.sum())
        return 4 * shares[3] + shares[0]

    expected = power(np.array(HEAVY)) / power(runs.ETHANOL.get_masses())
    assert powers[1] / powers[0] == pytest.approx(expected, rel=1e-3)


def test_masses_follow_another_order_of_the_atoms(runs):
    source = FrameSource.of_array(runs.ETHANOL.numbers, runs.shaking(3, 1))
    source = FrameSource(source.species, 3, None, source.read, own_masses=np.arange(1.0, 10.0))
    order = np.array([2, 0, 1, 8, 7, 6, 5, 4, 3])
    assert source.reordered(order).masses.tolist() == [3, 1, 2, 9, 8, 7, 6, 5, 4]


@pytest.mark.parametrize("masses", [[1.0], [1.0] * 8 + [-1.0], [1.0] * 8 + [float("nan")]])
def test_masses_that_are_none_are_refused(masses, runs, tmp_path):
    run = runs.write_run(tmp_path / "run", runs.shaking(3, 1), system=system(masses))
    with pytest.raises(RunDirectoryError, match=r"summary\.json"):
        read_run(run)
