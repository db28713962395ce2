"""Stored spreads in training: what the configuration does with them."""

from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError
from piwsl.losses.spread import EQUAL_WEIGHTS
from piwsl.training.data import training_frames
from piwsl.training.objective import build_objective


@pytest.fixture(scope="module")
def spread_file(water_file, tmp_path_factory):
    """The frames of water, half of them with spreads from 0.01 to 0.30."""
    path = tmp_path_factory.mktemp("spread") / "spread.h5"
    frames = [
        replace(one, energy_spread=0.01 * (index + 1), force_spread=np.full(3, 0.01 * (index + 1)))
        if index < 30
        else one
        for index, one in enumerate(read_frames(water_file))
    ]
    write_frames(FrameSet(frames), path)
    return path


def spreads(frames):
    return [one.energy_spread for one in frames.train if one.has_spread]


def test_by_default_labels_have_equal_weights(small, spread_file):
    frames = training_frames(small(f"data.file={spread_file}"))
    assert frames.spread == EQUAL_WEIGHTS
    assert any(line.startswith("spread of labels   on 30 frames") for line in frames.lines())


def test_limits_are_said_with_what_they_exclude(small, spread_file):
    frames = training_frames(
        small(f"data.file={spread_file}", "data.largest_force_spread=0.2", "data.largest_energy_spread=0.1")
    )
    share = np.mean([spread > 0.2 for spread in spreads(frames)])
    assert f"{share:.1%} of the forces on atoms with a spread exceed 0.2 eV/A and are not used" in frames.report.notes
    terms = build_objective(small().loss, small().displacement, frames.spread).terms
    assert [weighted.term.spread for weighted in terms[:2]] == [frames.spread] * 2
    assert frames.spread.largest_force == 0.2
    assert frames.spread.largest_energy == 0.1
    assert frames.spread.force_scale is None


def test_weights_refer_to_the_median(small, spread_file):
    frames = training_frames(small(f"data.file={spread_file}", "data.weigh_by_spread=true"))
    assert frames.spread.force_scale == pytest.approx(np.median(spreads(frames)))
    assert frames.spread.energy_scale == pytest.approx(np.median(spreads(frames)))
    assert any("half weight at" in note for note in frames.report.notes)


@pytest.mark.parametrize(
    "option", ["data.largest_force_spread=0.1", "data.largest_energy_spread=0.1", "data.weigh_by_spread=true"]
)
def test_a_spread_that_is_not_stored(small, option):
    with pytest.raises(ConfigError, match=rf"{option.split('=')[0]}: no training frame stores this spread"):
        training_frames(small(option))
