"""Ways to compute a training: in parts, with processes that read ahead, in other precisions, with fixed weights."""

import numpy as np
import pytest
import torch

from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained
from piwsl.training.run import run_training
from piwsl.training.task import DivergedError, TrainingTask


def weights(result):
    return load_trained(result.model).tensors


def assert_same(one, two, tolerance=0.0):
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_a_step_in_parts_is_the_same_step(small, tmp_path):
    common = ["dtype=float64", "optimizer.batch_size=6", "optimizer.steps=25", "optimizer.validation_interval=10"]
    steps, losses = [], []
    whole = run_training(small(*common), tmp_path / "whole", progress=lambda p: losses.append(p.losses))
    parts = run_training(small(*common, "optimizer.accumulate=3"), tmp_path / "parts", progress=steps.append)
    assert_same(weights(whole), weights(parts), 1e-9)
    assert [progress.step for progress in steps] == list(range(1, 26))
    for expected, progress in zip(losses, steps, strict=True):
        assert progress.losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_run_in_parts_resumes_bit_by_bit(small, tmp_path):
    length = ["optimizer.steps=18", "optimizer.validation_interval=6"]
    config = small("optimizer.batch_size=6", "optimizer.accumulate=3", "optimizer.schedule=plateau", *length)
    whole = run_training(config, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 15:
            raise StopError

    with pytest.raises(StopError):
        run_training(config, tmp_path / "broken", progress=stop)
    steps = []
    resumed = run_training(config, tmp_path / "broken", resume=True, progress=lambda p: steps.append(p.step))
    assert steps == list(range(13, 19))
    assert_same(weights(whole), weights(resumed))


def test_a_batch_that_cannot_be_divided(small, tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size = 5 .* 1 processes x 2 parts .* multiple of 2"):
        run_training(small("optimizer.accumulate=2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_reading_ahead_changes_nothing(small, tmp_path):
    one = run_training(small("optimizer.steps=45"), tmp_path / "one")
    two = run_training(small("optimizer.steps=45", "data.workers=1"), tmp_path / "two")
    assert_same(weights(one), weights(two))


@pytest.mark.slow
@pytest.mark.parametrize("loss", [[], ["loss.forces=0"]], ids=["forces", "energies"])
def test_bfloat16_trains_and_keeps_float32_weights(small, tmp_path, loss):
    seen = []
    config = small("dtype=bf16-mixed", "optimizer.steps=40", *loss)
    result = run_training(config, tmp_path / "run", progress=lambda p: seen.append(p.loss))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])
    model = load_trained(result.model)
    assert {tensor.dtype for tensor in model.tensors.values() if tensor.is_floating_point()} == {torch.float32}


def test_validation_does_not_run_in_bfloat16(small, tmp_path, monkeypatch):
    from piwsl.training import task

    original, within = task.labeled_points, []

    def watched(potential, batch):
        within.append(torch.is_autocast_enabled("cpu"))
        return original(potential, batch)

    # Patched in place: Lightning calls the task, so an argument would have to pass through the trainer.
    monkeypatch.setattr(task, "labeled_points", watched)
    run_training(small("dtype=bf16-mixed", "optimizer.steps=2"), tmp_path / "run")
    assert within
    assert not any(within)


@pytest.mark.slow
def test_deterministic_runs_are_equal_bit_by_bit(small, tmp_path):
    config = small("deterministic=true", "optimizer.steps=20")
    used = []
    one = run_training(
        config, tmp_path / "a", progress=lambda _: used.append(torch.are_deterministic_algorithms_enabled())
    )
    assert all(used)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same(weights(one), weights(run_training(config, tmp_path / "b")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(small, tmp_path):
    with pytest.raises(ConfigError, match="PyTorch finds no CUDA device"):
        run_training(small("accelerator=gpu"), tmp_path / "run")


@pytest.mark.slow
def test_fixed_weights_stay_and_the_others_move(small, tmp_path):
    free = run_training(small("optimizer.steps=20"), tmp_path / "free")
    fixing = ["start.freeze=[readout]", "optimizer.weight_decay=0.1"]
    fixed = run_training(small("optimizer.steps=20", *fixing), tmp_path / "fixed")
    start = run_training(small("optimizer.steps=1", "optimizer.learning_rate=1e-12"), tmp_path / "start")
    first, last = weights(start), weights(fixed)
    for name in first:
        moved = float((last[name] - first[name]).abs().max())
        assert moved == 0 if name.startswith("readout") else True, name
    assert not torch.equal(weights(free)["readout.0.weight"], first["readout.0.weight"])
    assert not torch.equal(last["first_update.mix.weight"], first["first_update.mix.weight"])


@pytest.mark.slow
def test_amsgrad_is_a_choice(small, tmp_path):
    with_it = run_training(small("optimizer.steps=20"), tmp_path / "with")
    without = run_training(small("optimizer.steps=20", "optimizer.amsgrad=false"), tmp_path / "without")
    assert not torch.equal(weights(with_it)["readout.0.weight"], weights(without)["readout.0.weight"])


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(small, tmp_path, monkeypatch):
    original, calls = TrainingTask.training_step, []

    def poisoned(self, batch, index):
        loss = original(self, batch, index)
        calls.append(1)
        if len(calls) == 40:  # the last step before a checkpoint: zero by value, not by gradient
            weight = next(self.potential.parameters())
            loss = loss + (0.0 * weight.sum()).abs().sqrt()
        return loss

    # Patched in place: no data or configuration gives a finite loss with a gradient that is not finite.
    monkeypatch.setattr(TrainingTask, "training_step", poisoned)
    with pytest.raises(DivergedError, match=r"gradient of the loss is not finite at step 39 \(frames \d+"):
        run_training(small(), tmp_path / "run")
    for name in ("best", "last"):
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 20
        assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
