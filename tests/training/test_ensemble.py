"""Ensembles: the same frames, other weights; what members say together; resumed member by member."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.export.trained_file import load_trained
from piwsl.runs.config import to_yaml
from piwsl.runs.files import sha256
from piwsl.training.data import training_frames
from piwsl.training.ensemble import ensemble_seeds, mean_and_deviation, run_ensemble
from piwsl.training.evaluate import predictions
from piwsl.training.run import run_training
from piwsl.training.stored_split import stored_split

pytestmark = pytest.mark.slow

SHORT = ("optimizer.steps=20", "optimizer.batch_size=4", "loss.pitc=0", "loss.pisc=0", "data.forces_fraction=0.5")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory, small):
    """An ensemble of seeds 1 and 2, trained side by side, and its configuration."""
    output = tmp_path_factory.mktemp("ensemble") / "run"
    config = small(*SHORT)
    return config, run_ensemble(config, output, [1, 2], workers=2), output


def weights(directory):
    return load_trained(directory / "model.pt").tensors


def test_members_share_their_frames_and_differ_in_their_weights(ensemble):
    config, result, output = ensemble
    splits = [stored_split(output / f"seed-{seed}" / "split.json") for seed in (1, 2)]
    assert splits[0] == splits[1] == training_frames(config).split
    one, two = (weights(output / f"seed-{seed}") for seed in (1, 2))
    assert not torch.equal(one["embedding.weight"], two["embedding.weight"])
    assert [member.seed for member in result.members] == [1, 2]


def test_the_file_of_an_ensemble(ensemble):
    _, result, output = ensemble
    content = json.loads((output / "ensemble.json").read_text())
    assert (content["seeds"], content["split_seed"], content["result"]) == ([1, 2], 0, "completed")
    errors = []
    for member, described in zip(result.members, content["members"], strict=True):
        summary = json.loads((member.directory / "summary.json").read_text())
        assert described["test"] == summary["test"] == asdict(member.test)
        assert described["model_sha256"] == sha256(member.model)
        errors.append(member.test.force_mae)
    assert content["mean"]["test"]["force_mae"] == pytest.approx(np.mean(errors))
    assert content["standard_deviation"]["test"]["force_mae"] == pytest.approx(np.std(errors, ddof=1))
    assert content["committee"]["test"] == asdict(result.test)


def test_the_committee_predicts_the_mean(ensemble):
    config, result, output = ensemble
    frames = training_frames(config).test
    forces, energies = [], []
    for seed in (1, 2):
        model = load_trained(output / f"seed-{seed}" / "model.pt")
        found = list(predictions(model.potential(), frames, model.config.cutoff, torch.float32))
        forces.append(np.concatenate([prediction.forces.detach().numpy() for prediction, _ in found]))
        energies.append(np.concatenate([prediction.energies.detach().numpy() for prediction, _ in found]))
    labels = np.concatenate([one.forces for one in frames])
    assert result.test.force_mae == pytest.approx(np.abs(np.mean(forces, axis=0) - labels).mean(), rel=1e-5)
    differences = np.mean(energies, axis=0) - [one.energy for one in frames]
    assert result.test.energy_rmse == pytest.approx(np.sqrt((differences**2).mean()), rel=1e-5)
    # A mean is never worse than its members on average (convexity).
    assert result.test.force_mae <= np.mean([member.test.force_mae for member in result.members]) + 1e-9


def test_resumed_member_by_member(ensemble, tmp_path):
    config, _, _ = ensemble
    begun = []

    class StopError(Exception):
        pass

    def stop(progress):
        if len(begun) == 2 and progress.step == 12:
            raise StopError

    output = tmp_path / "run"
    longer = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"validation_interval": 10})})
    with pytest.raises(StopError):
        run_ensemble(longer, output, [1, 2], on_member=lambda seed, _: begun.append(seed), progress=stop)
    assert begun == [1, 2]
    assert json.loads((output / "ensemble.json").read_text())["result"] == "interrupted"
    assert ensemble_seeds(output) == [1, 2]
    with pytest.raises(RunDirectoryError, match=r"continue it with resume=True, replace it with force=True"):
        run_ensemble(longer, output, [1, 2])
    with pytest.raises(RunDirectoryError, match=r"seed was 0, is 7"):
        run_ensemble(longer.model_copy(update={"seed": 7}), output, [1, 2], resume=True)
    steps = []
    begun.clear()
    resumed = run_ensemble(
        longer,
        output,
        [1, 2, 3],
        resume=True,
        on_member=lambda seed, _: begun.append(seed),
        progress=lambda progress: steps.append(progress.step),
    )
    assert begun == [2, 3]
    assert steps[0] == 11
    assert len(steps) == 30
    assert [member.seed for member in resumed.members] == [1, 2, 3]
    # The first member never ran again; the second equals an uninterrupted one.
    whole = run_training(longer.model_copy(update={"seed": 2}), tmp_path / "whole", frames=training_frames(longer))
    assert all(
        torch.equal(value, weights(output / "seed-2")[name]) for name, value in weights(tmp_path / "whole").items()
    )
    assert whole.test == resumed.members[1].test


def test_a_member_resumed_by_itself_keeps_the_split(ensemble):
    config, result, output = ensemble
    seen = []
    again = run_training(
        config.model_copy(update={"seed": 2}), output / "seed-2", resume=True, on_data=lambda one: seen.append(one)
    )
    expected = training_frames(config)
    assert seen[0].split == expected.split
    assert [one.has_forces for one in seen[0].train] == [one.has_forces for one in expected.train]
    assert again.test.force_mae == pytest.approx(result.members[1].test.force_mae)


def test_two_processes_train_the_same_ensemble(ensemble, tmp_path):
    """Every member is trained by both processes; the first one writes and prints."""
    config, alone, _ = ensemble
    (tmp_path / "c.yaml").write_text(to_yaml(config.model_copy(update={"accelerator": "cpu"})))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [
        "-m",
        "piwsl.cli",
        "train",
        str(tmp_path / "c.yaml"),
        "--seeds",
        "1,2",
        "--output",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean prediction") == 1
    assert done.stdout.count("step 20/20") == 2
    together = json.loads((tmp_path / "run" / "ensemble.json").read_text())
    for member, described in zip(alone.members, together["members"], strict=True):
        assert described["test"]["force_mae"] == pytest.approx(member.test.force_mae, rel=1e-4)
    assert together["committee"]["test"]["force_mae"] == pytest.approx(alone.test.force_mae, rel=1e-4)


def test_wrong_seeds_and_foreign_directories(small, tmp_path):
    for seeds in ([], [1, 1], [-1]):
        with pytest.raises(ConfigError, match="distinct integers"):
            run_ensemble(small(), tmp_path / "run", seeds)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="holds no ensemble"):
        run_ensemble(small(), tmp_path / "other", [1], force=True)
    with pytest.raises(RunDirectoryError, match="contains no ensemble to resume"):
        run_ensemble(small(), tmp_path / "other", [1], resume=True)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "run").exists()


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert mean_and_deviation([1.0]) == (1.0, 0.0)
    assert mean_and_deviation([1.0, None]) is None
