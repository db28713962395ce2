"""Training runs: they learn, explain themselves, stop on nonsense, and survive a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader

from piwsl.cli.main import run as run_command
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.export.trained_file import load_trained
from piwsl.models import PaiNN
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import locked
from piwsl.training import run as run_module
from piwsl.training.run import run_training
from piwsl.training.task import DivergedError


@pytest.mark.slow
def test_a_run_learns_and_explains_itself(small, tmp_path):
    steps = []
    result = run_training(small("optimizer.steps=200"), tmp_path / "run", progress=steps.append)
    assert steps[-1].step == steps[-1].steps == 200
    assert {"energy", "forces", "pitc", "pisc"} <= set(steps[-1].losses)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["frames"] == {"train": 40, "validation": 10, "test": 10}
    assert summary["result"] == "completed"
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len({*split["train"], *split["validation"], *split["test"]}) == 60
    model = load_trained(result.model)
    assert len(model.check_frames) == 5
    assert model.training["data_sha256"] == summary["inputs"]["sha256"]
    # The forces of these frames have a standard deviation of about 1.5 eV/A.
    assert result.test is not None
    assert result.test.force_mae < 0.3
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    log = (tmp_path / "run" / "train.log").read_text()
    assert "energies on 60 and forces on 60 of 60 frames" in log
    assert log.count("validation") >= 10
    header = (tmp_path / "run" / "metrics" / "metrics.csv").read_text().splitlines()[0]
    assert "validation/force_mae" in header


def weights(result):
    return load_trained(result.model).tensors


@pytest.mark.slow
def test_same_seed_same_model_other_seed_another(small, tmp_path):
    one = weights(run_training(small("optimizer.steps=20"), tmp_path / "a"))
    two = weights(run_training(small("optimizer.steps=20"), tmp_path / "b"))
    three = weights(run_training(small("optimizer.steps=20", "seed=1"), tmp_path / "c"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)


SHORT = ("optimizer.steps=24", "optimizer.validation_interval=8")


def metrics(folder):
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if value} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant", "contrast"])
def test_resume_equals_an_uninterrupted_run(small, tmp_path, schedule):
    if schedule == "contrast":  # its chains are part of the state
        config = small(*SHORT, "loss.contrast=0.01", "contrast.temperature=300", "loss.pitc=0", "loss.pisc=0")
    else:
        config = small(*SHORT, f"optimizer.schedule={schedule}", "loss.cadence=3")
    whole = weights(run_training(config, tmp_path / "whole"))

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 22:
            raise StopError

    with pytest.raises(StopError):
        run_training(config, tmp_path / "broken", progress=stop)
    first = []
    resumed = weights(run_training(config, tmp_path / "broken", resume=True, progress=lambda p: first.append(p.step)))
    assert first[0] == 17
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    rows = metrics(tmp_path / "whole" / "metrics")
    assert [row["step"] for row in rows] == ["8", "8", "16", "16", "24", "24"]
    assert metrics(tmp_path / "broken" / "metrics-1") == rows[-2:]


@pytest.mark.slow
def test_kill_and_resume_on_the_command_line(small, tmp_path):
    config = small("optimizer.steps=120")
    whole = weights(run_training(config, tmp_path / "whole"))
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "piwsl.cli", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(tmp_path / "c.yaml"), "--output", str(run)], env=environment)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(SystemExit) as stop:
        run_command(["train", "--resume", "--output", str(run)])
    assert not stop.value.code
    resumed = load_trained(run / "model.pt").tensors
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def group_exists(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


# A shell starts background jobs with Ctrl-C switched off; the test switches it on again.
WITH_CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from piwsl.cli.main import run
run(sys.argv[1:])
"""


@pytest.mark.slow
def test_interrupt_says_how_to_go_on_and_leaves_no_process(small, tmp_path):
    (tmp_path / "c.yaml").write_text(to_yaml(small("optimizer.steps=100000", "data.workers=1")))
    arguments = ["train", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    deadline = time.monotonic() + 30
    while group_exists(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "interrupted: continue " in errors
    assert "from the last checkpoint with --resume" in errors
    assert "Traceback" not in errors


def test_an_interrupt_between_two_epochs_is_one(small, tmp_path, monkeypatch):
    begin, calls = CombinedLoader.__iter__, []

    def interrupted(loader):
        calls.append(loader)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return begin(loader)

    monkeypatch.setattr(CombinedLoader, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_training(small("optimizer.steps=1000", "optimizer.validation_interval=2"), tmp_path / "run")


@pytest.mark.slow
def test_another_run_is_never_overwritten(small, tmp_path):
    config = small("optimizer.steps=20")
    run_training(config, tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="replace it with force=True"):
        run_training(config, tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"optimizer\.steps was 20, is 21 \(the cosine schedule"):
        run_training(small("optimizer.steps=21"), tmp_path / "run", resume=True)
    with pytest.raises(RunDirectoryError, match="no training run"):
        run_training(config, tmp_path / "elsewhere", resume=True)
    run_training(small("optimizer.steps=20", "seed=3"), tmp_path / "run", force=True)


@pytest.mark.slow
def test_a_run_can_be_made_longer(small, tmp_path):
    settings = ["optimizer.schedule=plateau", "optimizer.plateau_patience=1", "optimizer.validation_interval=5"]
    run_training(small(*settings, "optimizer.steps=10"), tmp_path / "run")
    longer = run_training(small(*settings, "optimizer.steps=30"), tmp_path / "run", resume=True)
    whole = run_training(small(*settings, "optimizer.steps=30"), tmp_path / "whole")
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(longer).items())
    assert "resumed: optimizer.steps was 10, is 30" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_energies_only(small, water_file, tmp_path):
    with np.load(water_file) as archive:
        content = {key: archive[key] for key in archive.files if key != "forces"}
    np.savez(tmp_path / "energies.npz", **content)
    result = run_training(small(f"data.file={tmp_path / 'energies.npz'}", "loss.mixing=0.0"), tmp_path / "run")
    assert result.test is not None
    assert result.test.energy_mae is not None
    assert result.test.force_mae is None


@pytest.mark.slow
def test_a_diverged_run_stops_and_keeps_its_checkpoint(small, tmp_path, monkeypatch):
    from piwsl.losses.supervised import EnergyMAE

    original = EnergyMAE.__call__
    calls = []

    def poisoned(self, prediction, batch):
        values, labeled = original(self, prediction, batch)
        calls.append(1)
        return values * (float("nan") if len(calls) > 40 else 1.0), labeled

    # Patched in place: the terms of a run are built from its configuration, which has no key for a faulty term.
    monkeypatch.setattr(EnergyMAE, "__call__", poisoned)
    with pytest.raises(DivergedError, match=r"the loss is nan at step \d+ \(frames"):
        run_training(small(), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_nothing_is_written_when_the_data_are_bad(small, tmp_path):
    with pytest.raises(DataError, match="choose smaller sizes"):
        run_training(small("data.train=100"), tmp_path / "run")
    with pytest.raises(ConfigError, match="no supervised loss"):
        run_training(small("loss.energy=0", "loss.forces=0"), tmp_path / "run")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_flattened_surface_is_said(small, tmp_path):
    result = run_training(
        small("model.radial_size=20", "model.zbl=false", "loss.pitc=1e5", "loss.mixing=0", "displacement.length=0.2"),
        tmp_path / "run",
    )
    assert "PITC and PISC contributed up to" in result.warnings[0]
    hardly = run_training(small("model.zbl=false", "optimizer.steps=2"), tmp_path / "short")
    assert "train longer" in hardly.warnings[0]


@pytest.mark.slow
def test_the_last_steps_are_validated_too(small, tmp_path):
    run_training(small("optimizer.steps=50"), tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert [step in log for step in ("step 20:", "step 40:", "step 50:")] == [True] * 3
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 50


def test_force_replaces_nothing_but_a_training_run(small, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("steps: 3\n")
    with pytest.raises(RunDirectoryError, match="no training run"):
        run_training(small(), tmp_path / "other", force=True)
    assert (tmp_path / "other" / "config.yaml").read_text() == "steps: 3\n"


@pytest.mark.slow
def test_two_runs_do_not_train_in_one_directory(small, tmp_path):
    begin = run_training(
        small("optimizer.steps=4", "optimizer.validation_interval=2"), tmp_path / "run"
    ).model.read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with locked(tmp_path / "run"):
        for option in ("force", "resume"):
            with pytest.raises(RunDirectoryError, match="another process is using this directory"):
                run_training(
                    small("optimizer.steps=4", "optimizer.validation_interval=2"), tmp_path / "run", **{option: True}
                )
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert {path.name for path in after} - {path.name for path in before} <= {".lock"}
    assert all(after[path] == stamp for path, stamp in before.items() if path.is_file() and path.name != ".lock")
    assert (tmp_path / "run" / "model.pt").read_bytes() == begin


def test_a_run_builds_its_network_once(small, tmp_path, monkeypatch):
    built, original = [], PaiNN.__init__

    def counted(network, *arguments, **options):
        built.append(network)
        original(network, *arguments, **options)

    # Patched in place: a counting network in the register would remain there for all other tests.
    monkeypatch.setattr(PaiNN, "__init__", counted)
    run_training(small("optimizer.steps=1"), tmp_path / "run")
    assert len(built) == 1


@pytest.mark.slow
def test_a_run_that_another_process_made_during_the_preparation_is_kept(small, monkeypatch, tmp_path):
    prepare = run_module.prepare

    def prepared(*arguments, **options):
        monkeypatch.setattr(run_module, "prepare", prepare)
        run_training(small("optimizer.steps=2"), tmp_path / "run")
        return prepare(*arguments, **options)

    monkeypatch.setattr(run_module, "prepare", prepared)
    with pytest.raises(RunDirectoryError, match="already holds a training run"):
        run_training(small("optimizer.steps=3"), tmp_path / "run")
    assert "steps: 2\n" in (tmp_path / "run" / "config.yaml").read_text()
