"""Choice of structures to label."""

import numpy as np
import pytest
from ase.build import molecule

from piwsl.data.frames import Frame, FrameSet
from piwsl.learning.choose import choose
from piwsl.learning.committee import predict_frames
from tests.support.models_for_tests import trained_file


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [trained_file(folder / f"{seed}.pt", seed=seed) for seed in (1, 2)]


def frames_of(count, width, seed=0):
    frames = []
    for index in range(count):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(width, seed=100 * seed + index)
        frames.append(Frame.from_atoms(atoms))
    return frames


def test_means_and_spreads_are_those_of_the_members(models):
    frames = FrameSet(frames_of(3, 0.05))
    one, two, both = (predict_frames(chosen, frames) for chosen in (models[:1], models[1:], models))
    assert both.energies == pytest.approx((one.energies + two.energies) / 2)
    assert both.forces[1] == pytest.approx((one.forces[1] + two.forces[1]) / 2, abs=1e-7)
    spread = np.linalg.norm(one.forces[1] - two.forces[1], axis=1) / np.sqrt(2)
    assert both.force_spreads[1] == pytest.approx(spread, abs=1e-7)
    assert one.largest_spreads is None
    assert both.largest_spreads[1] == pytest.approx(spread.max())
    assert np.array_equal(one.features, both.features)


def test_labeled_structures_are_not_chosen_again(models):
    known = frames_of(3, 0.05)
    chosen = choose([*known, *frames_of(2, 0.05, seed=5)], known, models[:1], 4)
    assert len(chosen.frames) == 2
    assert chosen.spread is None


def test_broken_structures_are_not_chosen(models):
    broken = frames_of(1, 0.02)[0]
    positions = broken.positions.copy()
    positions[1] = positions[0] + [0.2, 0, 0]  # the prior gives a force of hundreds of eV/A
    broken = Frame(broken.species, positions, np.nan, broken.forces)
    fine = frames_of(3, 0.05, seed=2)
    chosen = choose([broken, *fine], [], models, 4)
    assert len(chosen.frames) == 3
    assert not any(np.array_equal(frame.positions, positions) for frame in chosen.frames)


def test_uncertain_structures_come_first(models):
    candidates = frames_of(40, 0.05, seed=3)
    chosen = choose(candidates, [], models, 2)
    spreads = predict_frames(models, FrameSet(candidates)).largest_spreads
    ranks = np.argsort(np.argsort(-spreads))
    places = [next(i for i, one in enumerate(candidates) if one is frame) for frame in chosen.frames]
    assert max(ranks[places]) < 10  # the upper quarter
    assert chosen.spread == pytest.approx(np.median(spreads[places]))
