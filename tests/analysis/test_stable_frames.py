"""Runs that end to be a molecule somewhere, seen in pieces."""

from dataclasses import replace

import numpy as np
import pytest

from piwsl.analysis.quantities import MOLECULE
from piwsl.analysis.quantities.bond_lengths import compare_bond_statistics, compare_bonds
from piwsl.analysis.quantities.distances import distance_histogram
from piwsl.analysis.quantities.stability import find_stability, stable_time
from piwsl.analysis.quantity import Sample, measure, survey_frames
from piwsl.structures.bonds import find_bonds
from piwsl.structures.contacts import ContactWatch
from piwsl.trajectories.frame_source import FrameSource


@pytest.fixture(scope="module")
def positions(runs):
    return runs.shaking(2600, seed=1)


def collapsed(positions, frame):
    """Two hydrogens of the methyl group fall together; their bonds hold."""
    changed = positions.copy()
    carbon = changed[frame:, 0]
    mean = 0.75 * (changed[frame:, 6] - carbon) + 0.25 * (changed[frame:, 7] - carbon)
    changed[frame:, 7] = carbon + 1.09 * mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return changed


def broken(positions, frame):
    changed = positions.copy()
    changed[frame:, 8] += 5.0
    return changed


@pytest.mark.parametrize("frame", [1, 999, 1000, 2100])
@pytest.mark.parametrize("change", [collapsed, broken])
def test_the_end_is_found_in_any_piece(runs, positions, change, frame):
    numbers = runs.ETHANOL.numbers
    times = 50.0 * np.arange(1, 2601)
    bonds = find_bonds(numbers, positions)
    changed = change(positions, frame)
    found = find_stability(FrameSource.of_array(numbers, changed), times, bonds)
    assert found.stable_frames == frame
    assert replace(found, contact=None) == stable_time(changed, times, bonds)
    holding = changed[: found.frames]
    assert found.contact == ContactWatch(numbers, bonds.pairs).find(holding, 0, times)
    assert (found.contact is None) is (change is broken)


def test_a_break_after_a_collapse_is_told_too(runs, positions):
    bonds = find_bonds(runs.ETHANOL.numbers, positions)
    changed = broken(collapsed(positions, 1200), 2300)
    found = find_stability(FrameSource.of_array(runs.ETHANOL.numbers, changed), np.arange(2600.0), bonds)
    assert (found.stable_frames, found.contact.frame, found.frames) == (1200, 1200, 2300)


def test_pieces_give_what_whole_arrays_give(runs, positions):
    numbers = runs.ETHANOL.numbers
    bonds = find_bonds(numbers, positions)
    source = FrameSource.of_array(numbers, positions)
    surveys = survey_frames(MOLECULE, numbers)
    find_stability(source, np.arange(2600.0), bonds, surveys.values())
    found = measure(Sample(source, 2200, bonds, positions[0], None, "mine", surveys), MOLECULE)
    whole = distance_histogram(positions[:2200])
    np.testing.assert_array_equal(found["h_of_r"].all_pairs.blocks.total, whole.blocks.total)
    assert found["h_of_r"].all_pairs.blocks.samples == pytest.approx(whole.blocks.samples, rel=0.2)
    for ours, theirs in zip(
        compare_bond_statistics(found["bonds"], found["bonds"]),
        compare_bonds(positions[:2200], positions[:2200], bonds),
        strict=True,
    ):
        assert ours.mean.value == pytest.approx(theirs.mean.value, abs=1e-9)
        assert ours.width.value == pytest.approx(theirs.width.value, abs=1e-9)
