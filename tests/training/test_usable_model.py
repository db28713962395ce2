"""A usable model at any time: at each best validation, from an interrupted run, within a time budget."""

import pytest
import torch

import piwsl
from piwsl.errors import RunDirectoryError
from piwsl.export.trained_file import load_trained
from piwsl.runs.config import to_yaml
from piwsl.training.checkpoints import best_weights
from piwsl.training.directory import BEST, LAST, TrainingSummary, continuation
from piwsl.training.run import run_training
from piwsl.training.schedules import Cosine

BUDGET = 0.05  # min


class InterruptionError(Exception):
    pass


def interrupting(step):
    def report(progress):
        if progress.step == step:
            raise InterruptionError

    return report


@pytest.fixture
def interrupted(small, tmp_path):
    """Directory of a run that ended without notice after two of its three validations."""
    with pytest.raises(InterruptionError):
        run_training(small(), tmp_path / "run", progress=interrupting(45))
    return tmp_path / "run"


@pytest.mark.slow
def test_an_interrupted_run_has_a_usable_model_and_can_be_finished(interrupted, water_file):
    model = load_trained(interrupted / "model.pt")
    best = best_weights(interrupted)
    assert model.training["test"] is None
    assert model.training["validation"]["force_mae"] > 0
    assert all(torch.equal(value, best[f"network.{name}"]) for name, value in model.tensors.items())
    assert piwsl.evaluate(interrupted, water_file).errors.force_mae is not None
    assert piwsl.export_model(interrupted, dtype="float64").path == interrupted / "model-general.pt"

    result = piwsl.finish_training(interrupted)
    summary = TrainingSummary.read(interrupted)
    assert summary.result == "stopped"
    assert (summary.steps, summary.best_step) == (40, torch.load(interrupted / BEST, weights_only=True)["global_step"])
    assert summary.test is not None
    finished = load_trained(result.model)
    assert finished.training["test"]["force_mae"] == pytest.approx(result.test.force_mae)
    assert all(torch.equal(value, best[f"network.{name}"]) for name, value in finished.tensors.items())


@pytest.mark.slow
def test_a_finished_run_continues_as_if_nothing_had_been(interrupted, small, tmp_path):
    piwsl.finish_training(interrupted)
    resumed = run_training(small(), interrupted, resume=True)
    whole = run_training(small(), tmp_path / "whole")
    one, two = load_trained(resumed.model).tensors, load_trained(whole.model).tensors
    assert all(torch.equal(one[name], two[name]) for name in one)
    summary = TrainingSummary.read(interrupted)
    assert summary.result == "completed"
    assert (summary.steps, summary.best_step) == (60, torch.load(interrupted / BEST, weights_only=True)["global_step"])


def test_what_cannot_be_finished_is_one_line(small, tmp_path):
    with pytest.raises(RunDirectoryError, match="contains no training run to finish"):
        piwsl.finish_training(tmp_path)
    with pytest.raises(InterruptionError):
        run_training(small(), tmp_path / "run", progress=interrupting(2))
    with pytest.raises(RunDirectoryError, match="before its first validation: continue it with resume=True"):
        piwsl.finish_training(tmp_path / "run")


@pytest.mark.slow
def test_a_time_budget_ends_a_run_and_its_schedule(small, tmp_path):
    rates = []
    config = small("optimizer.steps=1000000", f"optimizer.minutes={BUDGET}", "loss.pitc=0", "loss.pisc=0")
    result = run_training(config, tmp_path / "run", progress=lambda progress: rates.append(progress.seconds_left))
    assert 0 < len(rates) < 100_000
    assert max(rates) <= 60 * BUDGET
    state = torch.load(tmp_path / "run" / LAST, weights_only=True)
    assert state["global_step"] == len(rates)
    assert state["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(1e-3 * 5e-3, rel=1e-3)
    assert result.validation.force_mae is not None
    assert TrainingSummary.read(tmp_path / "run").steps == len(rates)
    # The budget is used up: resuming adds no step.
    more = []
    run_training(config, tmp_path / "run", resume=True, progress=more.append)
    assert not more
    assert TrainingSummary.read(tmp_path / "run").steps == len(rates)


@pytest.mark.slow
def test_a_run_can_be_finished_without_its_last_checkpoint(interrupted):
    (interrupted / LAST).write_bytes(b"damaged")
    piwsl.finish_training(interrupted)
    summary = TrainingSummary.read(interrupted)
    assert summary.steps is None
    assert summary.best_step in (20, 40)


@pytest.mark.slow
def test_a_resumed_run_has_the_time_that_is_left(small, tmp_path):
    config = small("optimizer.steps=1000000", "optimizer.minutes=60", "loss.pitc=0", "loss.pisc=0")
    with pytest.raises(InterruptionError):
        run_training(config, tmp_path / "run", progress=interrupting(45))
    path = tmp_path / "run" / LAST
    state = torch.load(path, weights_only=True)
    assert 0 < state["seconds"] < 600
    state["seconds"] = 3599.0
    torch.save(state, path)
    steps = []
    run_training(config, tmp_path / "run", resume=True, progress=steps.append)
    assert steps[0].step == state["global_step"] + 1
    assert steps[0].seconds_left <= 1.0
    assert 3600.0 <= torch.load(path, weights_only=True)["seconds"] < 3630.0


def test_a_longer_budget_is_another_schedule(small, tmp_path):
    config = small("optimizer.minutes=1", "optimizer.schedule=constant")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert continuation(small("optimizer.minutes=2", "optimizer.schedule=constant"), tmp_path).notes
    with pytest.raises(RunDirectoryError, match=r"optimizer\.minutes was 1\.0, is 0\.5"):
        continuation(small("optimizer.minutes=0.5", "optimizer.schedule=constant"), tmp_path)


def test_the_cosine_follows_whichever_is_further():
    schedule = Cosine(warmup=0, steps=100)
    assert schedule.share(50) == pytest.approx(0.5005)
    schedule.time_share = 0.75
    assert schedule.share(50) == Cosine(warmup=0, steps=100).share(75)
    assert schedule.share(90) == Cosine(warmup=0, steps=100).share(90)
