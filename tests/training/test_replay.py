"""Replay: the start model labels frames, which keep their share of each batch, and validation never sees them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.io import write

from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, ElementError, RunDirectoryError
from piwsl.export.trained_file import load_trained
from piwsl.models import ModelConfig
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.distributed.processes import Processes
from piwsl.training.evaluate import predictions
from piwsl.training.loader import SeededOrder
from piwsl.training.mixed_order import MixedOrder
from piwsl.training.preflight import plan_run
from piwsl.training.preparation import prepare
from piwsl.training.replay import replay_frames, stored_replay, write_replay
from piwsl.training.run import run_training
from piwsl.training.start import with_network_of_start
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """PaiNN with random weights for H, C and O."""
    return trained_file(tmp_path_factory.mktemp("replay") / "model.pt")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Short trajectories, which save time."""
    monkeypatch.setattr("piwsl.training.replay.STEPS_APART", 5)


@pytest.fixture
def replaying(small, file):
    def configure(*overrides):
        settings = (f"start.init_from={file}", "start.replay=10", "start.replay_share=0.4", "optimizer.steps=20")
        config = small(*settings, "loss.pitc=0", "loss.pisc=0", *overrides)
        return with_network_of_start(config.model_copy(update={"model": ModelConfig()}))

    return configure


def prepared(config, tmp_path, frames=None, **options):
    frames = frames or training_frames(config)
    return prepare(config, frames, tmp_path / "run", Processes(), torch.device("cpu"), **options)


def test_every_batch_contains_its_share_of_replay_frames():
    mixed = MixedOrder(SeededOrder(7, 0), SeededOrder(5, 0, stream=4), 7, 10, 3)
    batches = mixed.frames(0, 1000).reshape(-1, 10)
    assert ((batches >= 7).sum(1) == 3).all()
    # Each part of an accumulated step contains nearly the same number.
    assert set((batches.reshape(-1, 2, 5) >= 7).sum(2).ravel()) == {1, 2}
    labeled, replay = batches[batches < 7], batches[batches >= 7]
    assert np.bincount(labeled).tolist() == [100] * 7
    assert np.bincount(replay - 7).tolist() == [60] * 5
    # Any batch depends only on its number.
    assert np.array_equal(mixed.frames(370, 390), batches[37:39].ravel())


@pytest.mark.slow
def test_replay_frames_have_the_labels_of_the_start_model_at_the_new_reference_energies(replaying, file, tmp_path):
    config = replaying()
    run = prepared(config, tmp_path)
    frames = run.setup.replay
    assert len(frames) == 10
    start = load_trained(file).potential()
    energies, forces = [], []
    for prediction, _ in predictions(start, frames, config.model.cutoff, torch.float32):
        energies += prediction.energies.tolist()
        forces.append(prediction.forces.detach().double().numpy())
    assert np.allclose(np.concatenate(forces), np.concatenate([one.forces for one in frames]), atol=1e-5)
    # All frames are water: the shift of the reference energies is the same for all.
    shift = np.array([one.energy for one in frames]) - np.array(energies)
    new, old = run.start.potential.reference_energies, load_trained(file).reference_energies
    expected = 2 * (float(new[1]) - old[1]) + float(new[8]) - old[8]
    assert abs(expected) > 1
    assert np.allclose(shift, expected, atol=1e-3)
    # The dynamics moved the atoms, by distances that are usual at its temperature.
    train = run.setup.frames.train
    nearest = [min(np.abs(one.positions - other.positions).max() for other in train) for one in frames]
    assert 1e-3 < min(nearest)
    assert max(nearest) < 2
    assert all(not one.has_stress for one in frames)


@pytest.mark.slow
def test_replay_follows_the_seed(replaying, tmp_path):
    def positions(*overrides):
        frames = prepared(replaying(*overrides), tmp_path).setup.replay
        return np.stack([one.positions for one in frames])

    assert np.array_equal(positions(), positions())
    assert not np.array_equal(positions(), positions("seed=1"))
    hot = positions("start.replay_temperature=2000")
    assert not np.array_equal(positions(), hot)


def test_replay_from_a_file_keeps_elements_that_the_new_labels_lack(replaying, tmp_path):
    structures = [frame(name, seed=seed).atoms() for name in ("CH3OH", "H2O") for seed in range(6)]
    write(tmp_path / "more.xyz", structures)
    config = replaying(f"start.replay={tmp_path / 'more.xyz'}")
    run = prepared(config, tmp_path)
    assert len(run.setup.replay) == 12
    assert run.start.potential.elements == [1, 6, 8]
    assert all(one.has_energy and one.has_forces for one in run.setup.replay)
    few = prepared(replaying(f"start.replay={tmp_path / 'more.xyz'}", "optimizer.steps=4"), tmp_path)
    assert len(few.setup.replay) == 8  # a run of 4 steps with 2 frames each uses no more


@pytest.mark.slow
def test_training_uses_replay_and_validation_does_not(replaying, tmp_path):
    config = replaying("data.forces_fraction=0")
    run = prepared(config, tmp_path)
    assert any(
        "holds the forces of replay frames to those of the start model" in note
        for note in run.setup.frames.report.notes
    )
    assert {weighted.term.name for weighted in run.task.objective.terms} == {"energy", "forces"}
    assert [weighted.term.name for weighted in run.task.validated.terms] == ["energy"]
    # The gradient of the forces reaches the weights although no training frame has forces.
    result = run_training(config, tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "replay: 10 frames by dynamics of the start model at 500 K, 2 of 5 structures in each batch" in log
    model = load_trained(result.model)
    assert model.training["start"]["replay"] == 10
    assert model.training["labels"]["training"]["forces"] == 0
    assert model.training["train_frames"] == 40
    metrics = (tmp_path / "run" / "metrics" / "metrics.csv").read_text().splitlines()
    column = metrics[0].split(",").index("train/forces")
    assert any(row.split(",")[column] for row in metrics[1:])


@pytest.mark.slow
def test_replay_holds_the_model_to_its_start(replaying, file, tmp_path):
    """Energies of another method are learned with smaller changes of the forces than without replay."""
    settings = ("data.forces_fraction=0", "optimizer.steps=60", "optimizer.learning_rate=1e-3")
    with_replay = replaying(*settings, "start.replay=40", "start.replay_share=0.6", "loss.forces=10")
    start = with_replay.start.model_copy(update={"replay": None})
    frames = prepared(with_replay, tmp_path).setup.replay
    potential = load_trained(file).potential()

    def forces(model):
        parts = predictions(model, frames, with_replay.model.cutoff, torch.float32)
        return np.concatenate([prediction.forces.detach().numpy() for prediction, _ in parts])

    def change(config, name):
        model = load_trained(run_training(config, tmp_path / name).model)
        return np.abs(forces(model.potential()) - forces(potential)).mean()

    kept = change(with_replay, "with")
    lost = change(with_replay.model_copy(update={"start": start}), "without")
    assert kept < 0.5 * lost


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 5])
def test_a_run_with_replay_resumes_to_the_same_weights(replaying, tmp_path, parts):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 11:
            raise StopError

    config = replaying("optimizer.steps=16", "optimizer.validation_interval=8", f"optimizer.accumulate={parts}")
    whole = load_trained(run_training(config, tmp_path / "whole").model).tensors
    with pytest.raises(StopError):
        run_training(config, tmp_path / "part", progress=stop)
    part = load_trained(run_training(config, tmp_path / "part", resume=True).model).tensors
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_stored_replay_frames_are_used_when_a_run_is_resumed(replaying, tmp_path):
    config = replaying()
    made = prepared(config, tmp_path).setup.replay
    moved = FrameSet([replace(one, positions=one.positions + 0.125, energy=one.energy + 1) for one in made])
    (tmp_path / "run").mkdir()
    write_replay(moved, tmp_path / "run" / "replay.pt")
    resumed = prepared(config, tmp_path, resumed=True).setup.replay
    for one, other in zip(moved, resumed, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.forces, other.forces)
        assert (one.energy, one.pbc) == (other.energy, other.pbc)
    (tmp_path / "run" / "replay.pt").write_bytes(b"damaged")
    with pytest.raises(RunDirectoryError, match=r"replay\.pt: damaged or not .*: start a new run"):
        stored_replay(tmp_path / "run" / "replay.pt")


def test_a_dry_run_labels_only_a_few_frames(replaying, tmp_path, monkeypatch):
    made = []

    def recorded(*arguments):
        made.append(replay_frames(*arguments))
        return made[-1]

    monkeypatch.setattr("piwsl.training.preparation.replay_frames", recorded)
    plan = plan_run(replaying("start.replay=1000000"), tmp_path / "run")
    assert any("1000000 frames by dynamics" in line and "2 of 5" in line for line in plan.lines)
    assert [len(frames) for frames in made] == [5]
    assert any(line.startswith("steps") and "1.5 passes" in line for line in plan.lines)


def test_replay_frames_with_unknown_elements_are_refused(replaying, tmp_path):
    write(tmp_path / "salt.xyz", [frame("CH3Cl", seed=seed).atoms() for seed in range(2)])
    config = replaying(f"start.replay={tmp_path / 'salt.xyz'}")
    with pytest.raises(ElementError, match=r"start\.replay: .*salt\.xyz contains Cl, but .* was not trained on it"):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    frames = training_frames(config)
    chlorine = FrameSet([frame("CH3Cl", seed=seed, labeled=True) for seed in range(4)])
    with pytest.raises(ConfigError, match=r"start\.replay: every training structure contains an element"):
        prepared(replaying(), tmp_path, replace(frames, train=chlorine))


def test_dynamics_that_fails_is_said(replaying, tmp_path, monkeypatch):
    monkeypatch.setattr("piwsl.training.replay.LARGEST_FORCE", 1e-9)
    with pytest.raises(ConfigError, match=r"became unphysical at once: lower start\.replay_temperature"):
        prepared(replaying(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["start.replay=5"], r"start\.replay: frames are labeled by the start model: set start\.init_from"),
        (["start.replay=0"], r"start\.replay = 0: it must be at least 1"),
        (["start.replay_share=0"], r"start\.replay_share = 0: it must be greater than 0"),
        (["start.replay_share=1"], r"start\.replay_share = 1: it must be less than 1"),
        (["start.replay_share=0.5"], r"start\.replay_share has no effect"),
        (["start.replay_temperature=300"], r"start\.replay_temperature has no effect"),
    ],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(None, settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_a_share_without_frames_of_both_kinds_is_refused(replaying, tmp_path, share):
    with pytest.raises(ConfigError, match=r"start\.replay_share: 0\...? of optimizer\.batch_size = 5 is . frames"):
        prepared(replaying(f"start.replay_share={share}"), tmp_path)
