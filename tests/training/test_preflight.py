"""The preflight reports weights, data, time and memory of a run, and writes nothing."""

import pytest
import torch

from piwsl import plan_training
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.training import preflight
from piwsl.training.data import training_frames
from piwsl.training.distributed.processes import Processes
from piwsl.training.preflight import plan_run
from piwsl.training.preparation import prepare
from tests.support.models_for_tests import trained_file


def line(plan, label):
    return next(text[19:] for text in plan.lines if text.startswith(label))


def test_a_plan_lists_weights_labels_time_and_memory_and_writes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small("start.freeze=[embedding, readout]", "optimizer.steps=1000", "loss.cadence=4")
    plan = plan_run(config, tmp_path / "run")
    assert not any(tmp_path.iterdir())
    assert set(plan.fixed) == {"embedding", "readout"}
    assert set(plan.trained) == {"first_message", "first_update"}
    assert plan.fixed["embedding"] == 119 * 8
    assert line(plan, "weights").startswith(f"{sum(plan.fixed.values())} fixed, {sum(plan.trained.values())} trained")
    assert line(plan, "training labels") == "energies on 40, forces on 40, stress on 0 of 40 frames"
    assert line(plan, "steps").startswith("1000 with 5 structures each: 125 passes")
    assert "25% of the steps" in line(plan, "time of a step")
    assert plan.memory is not None
    assert plan.memory > 1e6
    # 1000 steps take at least 1000 times as long as one, and validations add to it.
    assert plan.seconds > 1000 * plan.seconds_per_step > 0
    assert plan.warnings == []
    assert "trained weights" in repr(plan)


@pytest.mark.slow
def test_a_time_budget_limits_the_estimate(small, tmp_path):
    plan = plan_run(small("optimizer.steps=100000000", "optimizer.minutes=2"), tmp_path / "run")
    assert 120 <= plan.seconds < 180
    assert "optimizer.minutes: 2" in line(plan, "time in total")


@pytest.mark.slow
def test_a_plan_warns_about_settings_without_effect(small, tmp_path):
    plan = plan_run(
        small("optimizer.warmup=60", "optimizer.patience=4", "optimizer.validation_interval=70"), tmp_path / "run"
    )
    assert [warning.split(" ")[0] for warning in plan.warnings] == [
        "optimizer.warmup",
        "optimizer.validation_interval",
        "optimizer.patience",
    ]
    model = trained_file(tmp_path / "model.pt", channels=8)
    options = {"start.init_from": model, "data.forces_fraction": 0, "model.layers": 1, "optimizer.steps": 2}
    energies = plan_training(config=small(), options=options, output=tmp_path / "run")
    assert any("fine-tuning of all weights on energies only" in warning for warning in energies.warnings)
    careful = plan_training(config=small(), options={**options, "start.replay": 4}, output=tmp_path / "run")
    assert not any("fine-tuning" in warning for warning in careful.warnings)
    assert any("start" in text and "starting from" in text for text in energies.lines)


def test_a_plan_fails_like_the_run(small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        plan_run(small(), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"start\.freeze: no weight begins with 'body'"):
        plan_run(small("start.freeze=[body]"), tmp_path / "other")


def test_frames_in_memory_leave_no_file(small, water_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small("optimizer.steps=3").model_dump()
    del config["data"]["file"]
    plan = plan_training(read_frames(water_file), config=config, seeds=[1, 2])
    assert not any(tmp_path.iterdir())
    assert line(plan, "members").startswith("2, about")


def test_the_time_of_a_step_includes_the_contrast(small, tmp_path):
    config = small("loss.contrast=0.01", "contrast.temperature=300", "contrast.lifetime=1000000")
    prepared = prepare(config, training_frames(config), tmp_path / "run", Processes(), torch.device("cpu"))
    before = [chain.steps_left for chain in prepared.task.contrast.chains]
    preflight._measured(prepared)
    after = [chain.steps_left for chain in prepared.task.contrast.chains]
    assert all(later < earlier for later, earlier in zip(after, before, strict=True))
