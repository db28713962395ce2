"""Training frames without labels: where they go, what a batch contains, and what is said."""

from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.training.data import training_frames
from piwsl.training.loader import BatchShard, SeededOrder, training_order
from piwsl.training.run import run_training
from piwsl.training.stored_split import check_unchanged, write_split
from piwsl.units import BOHR
from tests.support.molecules import frame

BARE = [frame("H2O", rattle=0.08, seed=100 + seed) for seed in range(12)]


@pytest.fixture(scope="module")
def mixed_file(water_file, tmp_path_factory):
    """40 labeled frames of water, with 12 frames without labels in between."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.xyz"
    labeled = list(read_frames(water_file))[:40]
    write_frames(FrameSet([*labeled[:20], *BARE, *labeled[20:]]), path)
    return path


@pytest.fixture(scope="module")
def bare_file(tmp_path_factory):
    """12 frames of water, whose labels must not matter."""
    path = tmp_path_factory.mktemp("bare") / "bare.xyz"
    labeled = [replace(one, energy=1e3, forces=np.full_like(one.positions, 1e3)) for one in BARE]
    write_frames(FrameSet(labeled), path)
    return path


def test_frames_without_labels_train_and_never_validate(small, mixed_file):
    frames = training_frames(small(f"data.file={mixed_file}", "data.test=5"))
    assert frames.unlabeled == 12
    assert (len(frames.train), len(frames.validation), len(frames.test)) == (25 + 12, 10, 5)
    assert not any(one.has_energy for one in frames.train[25:])
    assert all(one.has_energy and one.has_forces for one in frames.train[:25])
    assert all(one.has_energy for part in (frames.validation, frames.test) for one in part)
    text = "\n".join(frames.lines())
    assert "without labels     12 of 52 frames" in text
    assert "12 training frames have no label: they fill 50% of each batch, for pitc, pisc" in text
    assert frames.labels["training"].energies == 25


def test_without_a_term_for_them_they_are_left_out(small, mixed_file):
    frames = training_frames(small(f"data.file={mixed_file}", "loss.pitc=0", "loss.pisc=0"))
    assert frames.unlabeled == 0
    assert frames.train.census.labeled.all()
    assert any("12 frames have no label and are not used" in note for note in frames.report.notes)


def test_a_separate_file_whose_labels_are_ignored(small, bare_file, water_file):
    frames = training_frames(small(f"data.unlabeled={bare_file}"))
    assert frames.unlabeled == 12
    assert len(frames.train) == 40 + 12
    assert not frames.train.select(range(40, 52)).census.labeled.any()
    assert not any(one.has_energy or one.has_forces for one in frames.train[40:])
    assert np.allclose(frames.train[40].positions, BARE[0].positions, atol=1e-7)
    assert len(frames.train.select(range(40)).files) == 1
    plain = training_frames(small())
    assert frames.split == plain.split


def test_what_the_separate_file_lacks_is_reported(small, bare_file, water_file, tmp_path):
    """Its cell may have another name, and its lengths are not in the unit of the training data."""
    (tmp_path / "bare.xyz").write_text('3\nbox="9 9 9"\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n')
    report = training_frames(small(f"data.unlabeled={tmp_path / 'bare.xyz'}")).report
    assert any(text.startswith("data.unlabeled: 1 of 1 frames have no cell, but 'box'") for text in report.warnings)
    with np.load(water_file) as archive:
        content = {name: value for name, value in archive.items() if name != "units"}
    np.savez(
        tmp_path / "bohr.npz", **{**content, "coords": content["coords"] / BOHR, "forces": content["forces"] * BOHR}
    )
    bohr = [f"data.file={tmp_path / 'bohr.npz'}", "data.units=eV, bohr", f"data.unlabeled={bare_file}"]
    frames = training_frames(small(*bohr))
    assert np.allclose(frames.train[40].positions, BARE[0].positions, atol=1e-7)
    assert any("is read in angstrom, not in the unit of length of data.units" in note for note in frames.report.notes)


def test_no_term_uses_the_separate_file(small, bare_file):
    with pytest.raises(ConfigError, match=r"data\.unlabeled: no active loss term"):
        training_frames(small(f"data.unlabeled={bare_file}", "loss.pitc=0", "loss.pisc=0"))


def test_an_element_without_any_label(small, tmp_path):
    write_frames(FrameSet([frame("CH4")]), tmp_path / "methane.xyz")
    with pytest.raises(ConfigError, match=r"contain C, but no labeled training frame does"):
        training_frames(small(f"data.unlabeled={tmp_path / 'methane.xyz'}"))


def test_each_batch_has_its_share(small, bare_file):
    config = small(f"data.unlabeled={bare_file}", "optimizer.batch_size=10", "data.unlabeled_share=0.3")
    order = training_order(config, training_frames(config), None)
    batches = order.frames(0, 400).reshape(40, 10)
    assert ((batches >= 40).sum(1) == 3).all()
    assert batches.max() == 51
    # Each frame occurs equally often, as far as this is possible: 280 of 40 frames and 120 of 12 frames.
    assert (np.bincount(batches.ravel(), minlength=52) == [7] * 40 + [10] * 12).all()
    # Any part of the order is the same part.
    assert np.array_equal(order.frames(37, 113), batches.ravel()[37:113])
    # All processes and parts receive both kinds.
    parts = BatchShard(10, parts=1, processes=2, rank=1).of(batches[0])
    assert 1 <= (parts >= 40).sum() <= 2


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.99, 4), (0.4, 2)])
def test_both_kinds_are_always_present(small, bare_file, share, count):
    config = small(f"data.unlabeled={bare_file}", f"data.unlabeled_share={share}")
    order = training_order(config, training_frames(config), None)
    assert ((order.frames(0, 50).reshape(10, 5) >= 40).sum(1) == count).all()


def test_replay_frames_leave_room_for_both_kinds(small, bare_file):
    """Replay frames fill their share of a batch first; the others share the rest."""
    config = small(
        f"data.unlabeled={bare_file}",
        "optimizer.batch_size=10",
        "data.unlabeled_share=0.5",
        "start.init_from=start.pt",
        "start.replay=6",
        "start.replay_share=0.4",
    )
    frames = training_frames(config)
    batches = training_order(config, frames, FrameSet(BARE[:6])).frames(0, 400).reshape(40, 10)
    assert ((batches >= 52).sum(1) == 4).all()
    assert ((batches < 40).sum(1) == 3).all()
    assert batches.max() == 57


def test_a_batch_of_one_has_no_room(small, bare_file):
    config = small(f"data.unlabeled={bare_file}", "optimizer.batch_size=1")
    with pytest.raises(ConfigError, match="leaves no room for frames with and without labels"):
        training_order(config, training_frames(config), None)


def test_all_frames_labeled_keep_their_order(small):
    config = small()
    assert isinstance(training_order(config, training_frames(config), None), SeededOrder)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(small, bare_file, tmp_path):
    options = [f"data.unlabeled={bare_file}", "optimizer.schedule=constant", "optimizer.validation_interval=5"]
    whole = run_training(small(*options, "optimizer.steps=10"), tmp_path / "whole")
    run_training(small(*options, "optimizer.steps=5"), tmp_path / "parts")
    parts = run_training(small(*options, "optimizer.steps=10"), tmp_path / "parts", resume=True)
    assert parts.validation == whole.validation


def test_another_file_without_labels_is_noticed(small, bare_file, tmp_path):
    frames = training_frames(small(f"data.unlabeled={bare_file}"))
    write_split(tmp_path / "split.json", frames)
    check_unchanged(tmp_path / "split.json", frames)
    with pytest.raises(RunDirectoryError, match="unlabeled file"):
        check_unchanged(tmp_path / "split.json", replace(frames, unlabeled_sha256="other"))
