"""`piwsl tune` as typed, alone and by two workers on one storage."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from piwsl.training.config import load_config
from piwsl.training.tuning.settings import load_settings
from piwsl.training.tuning.study import open_study

CONFIG = """
data: {system: aspirin, train: 12, validation: 4, test: 4}
model: {channels: 8, layers: 1, cutoff: 3.0}
loss: {pitc: 0, pisc: 0}
optimizer: {steps: 4, batch_size: 2, validation_interval: 2, warmup: 1}
threads: 1
tune:
  trials: 3
  random_trials: 2
  ranges:
    optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
    loss.pisc: {choices: [0.0, 0.01]}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


@pytest.mark.slow
def test_trials_are_printed_and_the_result_can_be_pasted(cli, config_file):
    done = cli("tune", config_file, "--output", "run", "--storage", "study.journal", "-o", "optimizer.steps=3")
    assert done.code == 0, done.errors
    lines = done.out.splitlines()
    assert "split              12 training, 4 validation, 4 test frames" in lines
    assert sum(line.startswith("trial ") and "min" in line for line in lines) >= 3
    assert "\x1b" not in done.out
    assert sum(line.startswith("test ") for line in lines if "MAE" in line) == 2
    pasted = done.out[done.out.index("# best settings") :].partition("\n\n")[0]
    best = yaml.safe_load(pasted)
    complete = load_config(Path("run/best.yaml"))
    assert best["optimizer"]["learning_rate"] == complete.optimizer.learning_rate
    assert complete.optimizer.steps == 3
    assert sorted(path.name for path in Path("run").glob("trial-*")) == ["trial-0000", "trial-0001", "trial-0002"]
    assert not list(Path("run").glob("study.db"))
    other = cli("tune", config_file, "--output", "run", "--storage", "study.journal")
    assert other.errors == [
        "piwsl: cannot continue study 'piwsl' with changed settings: optimizer.steps was 3, is 4: choose another "
        "tune.study or another --output DIRECTORY"
    ]
    longer = cli(
        "tune", config_file, "--output", "run", "--storage", "study.journal", "-o", "optimizer.steps=3", "--trials", "4"
    )
    assert longer.out.count("trial 3  ") == 1
    assert "4 trials" in longer.out


@pytest.mark.slow
def test_two_workers_on_one_storage_do_each_trial_once(config_file, tmp_path):
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    command = [sys.executable, "-m", "piwsl.cli", "tune", str(config_file), "--storage", storage, "--trials", "6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [*command, "--output", str(tmp_path / "run")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    _, settings = load_settings(config_file)
    study = optuna.load_study(study_name="piwsl", storage=storage)
    done = [one for one in study.trials if one.state.name in ("COMPLETE", "PRUNED")]
    assert len(done) == 6
    assert len({one.params["optimizer.learning_rate"] for one in done}) == 6
    assert len({one.user_attrs["directory"] for one in done}) == 6
    assert all((Path(one.user_attrs["directory"]) / "config.yaml").exists() for one in done)
    by_process = {one.user_attrs["worker"]["pid"] for one in done}
    assert by_process == {worker.pid for worker in workers}
    printed = [line.split()[1] for out, _ in outputs for line in out.splitlines() if line.endswith("min")]
    assert sorted(printed) == sorted(str(one.number) for one in done)
    assert sum("# best settings" in out for out, _ in outputs) >= 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["value"] == study.best_value
    assert open_study(settings.model_copy(update={"storage": storage}), tmp_path, study.user_attrs["settings"]).trials


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("tune:", (), "no section tune: add for instance"),
        ("loss.pisc", (), "unknown key loss.mixin: did you mean loss.mixing?"),
        (None, ("--storage", "sqlite:////nowhere/x.db"), "cannot be opened"),
        (None, ("-o", "data.train=5000"), "choose smaller sizes"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(cli, config_file, change, arguments, message):
    if change == "tune:":
        config_file.write_text(CONFIG.partition("tune:")[0])
    elif change:
        config_file.write_text(CONFIG.replace("loss.pisc", "loss.mixin"))
    called = cli("tune", config_file, "--output", "run", *arguments)
    assert called.code == 2
    assert len(called.errors) == 1
    assert message in called.errors[0]
    assert not list(Path("run").glob("trial-*"))


def test_without_optuna_and_under_torchrun(cli, config_file, monkeypatch):
    for name, value in (("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1"), ("SLURM_LOCALID", "1")):
        monkeypatch.setenv(name, value)
    assert "one process" in cli("tune", config_file).errors[0]
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else original(name, *rest)
    )
    assert "pip install 'piwsl[tune]'" in cli("tune", config_file).errors[0]
