"""The search for settings: ranges, trials shared by workers, failures, and what it leaves."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
import torch
import yaml
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from piwsl.errors import ConfigError, PiwslError, RunDirectoryError
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.run import run_training
from piwsl.training.tuning.results import all_results
from piwsl.training.tuning.run import run_study
from piwsl.training.tuning.search import GRACE, Worker, fail_abandoned, host
from piwsl.training.tuning.settings import extremes, load_settings, tune_config
from piwsl.training.tuning.study import FirstAsConfigured, counted, next_trial, open_storage, open_study, suggest

SHORT = ("optimizer.steps=8", "optimizer.validation_interval=2", "optimizer.ema_decay=0", "loss.pitc=0", "loss.pisc=0")
RATES = {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


def section(tmp_path, **keys):
    return tune_config({"ranges": RATES, "random_trials": 2, **keys}, tmp_path / "c.yaml")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, small):
    """A finished search of four trials."""
    folder = tmp_path_factory.mktemp("tune")
    config = small(*SHORT)
    settings = section(folder, trials=4, ranges={**RATES, "loss.mixing": {"choices": [0.0, 0.5]}})
    seen = []
    return config, settings, run_study(config, settings, folder / "run", on_trial=seen.append), folder / "run", seen


@pytest.mark.slow
def test_all_trials_are_done_and_the_first_is_the_configuration(searched):
    _, _, result, output, seen = searched
    assert [trial.number for trial in seen] == [trial.number for trial in result.trials] == [0, 1, 2, 3]
    assert {trial.state for trial in result.trials} <= {"completed", "stopped early"}
    assert result.trials[0].settings == {"optimizer.learning_rate": 5e-3, "loss.mixing": 0.5}
    for trial in result.trials:
        run = load_config(output / f"trial-{trial.number:04d}" / "config.yaml")
        assert run.optimizer.learning_rate == trial.settings["optimizer.learning_rate"]
        assert run.loss.mixing == trial.settings["loss.mixing"]
    assert len({trial.settings["optimizer.learning_rate"] for trial in result.trials}) == 4


@pytest.mark.slow
def test_the_test_frames_are_looked_at_once(searched):
    config, _, result, output, _ = searched
    for path in output.glob("trial-*/summary.json"):
        summary = json.loads(path.read_text())
        assert (summary["test"], summary["frames"]["test"]) == (None, 0)
    from piwsl.export.trained_file import load_trained

    model = load_trained(result.best[0].directory / "model.pt")
    errors = evaluate_potential(model.potential(), training_frames(config).test, model.config.cutoff, torch.float32)
    assert result.test == errors
    summary = json.loads((output / "summary.json").read_text())
    assert summary["test"]["force_mae"] == errors.force_mae
    assert summary["best"]["value"] == result.best[0].value == min(one.value for one in result.best)


@pytest.mark.slow
def test_what_it_leaves(searched):
    config, _, result, output, _ = searched
    best = load_config(output / "best.yaml")
    assert best.optimizer.learning_rate == result.best[0].settings["optimizer.learning_rate"]
    assert best.model == config.model
    rows = list(csv.DictReader((output / "trials.csv").read_text().splitlines()))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3]
    assert float(rows[result.best[0].number]["validation/force_mae"]) == result.best[0].value
    for name in ("history.png", "settings.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    again, _ = load_settings(output / "tune.yaml")
    assert again.model == config.model


@pytest.mark.slow
def test_a_finished_search_only_tells_its_result_and_may_be_made_longer(searched):
    config, settings, result, output, _ = searched
    new = []
    again = run_study(config, settings, output, on_trial=new.append)
    assert (new, again.trials, again.test) == ([], result.trials, result.test)
    longer = run_study(config, settings.model_copy(update={"trials": 5}), output, on_trial=new.append)
    assert [trial.number for trial in new] == [4]
    assert longer.trials[:4] == result.trials


@pytest.mark.slow
def test_other_settings_are_refused_with_the_differences(searched, small):
    config, settings, _, output, _ = searched
    before = (output / "tune.yaml").read_text()
    with pytest.raises(RunDirectoryError, match=r"loss\.pitc was 0\.0, is 2\.0"):
        run_study(small(*SHORT, "loss.pitc=2"), settings, output)
    assert (output / "tune.yaml").read_text() == before
    with pytest.raises(RunDirectoryError, match=r"tune\.metric was force_mae, is energy_mae"):
        run_study(config, settings.model_copy(update={"metric": "energy_mae"}), output)
    run_study(config.model_copy(update={"threads": None}), settings, output)


def begun(config, settings, output):
    """Create the study of a search without trials."""
    with pytest.raises(PiwslError, match="no trials"):
        run_study(config, settings, output)


@pytest.fixture
def without_trials(monkeypatch):
    """Make workers run no trial."""
    monkeypatch.setattr(Worker, "work", lambda *arguments: None)


@pytest.mark.usefixtures("without_trials")
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("data.file", "data"),
        ("data.test_file", "test file"),
        ("data.unlabeled", "unlabeled file"),
        ("data.levels", "data of level other"),
        ("data.reference_energies", "reference energies"),
    ],
)
def test_a_changed_file_is_refused(small, water_file, tmp_path, key, name):
    with np.load(water_file) as archive:
        content = dict(archive)
    path = tmp_path / ("atoms.yaml" if key == "data.reference_energies" else "some.npz")

    def write(order):
        if path.suffix == ".yaml":
            path.write_text("{H: -13.6, O: -2041.8}\n" + "#" * order)
        else:
            np.savez(
                path, **{key: value[::order] if value.shape[:1] == (60,) else value for key, value in content.items()}
            )

    write(1)
    sizes = {"data.test_file": ("data.test=",), "data.unlabeled": ("loss.pitc=1",)}.get(key, ())
    value = f"{{other: {path}}}" if key == "data.levels" else path
    config = small(*SHORT, *sizes, f"{key}={value}")
    begun(config, section(tmp_path), tmp_path / "run")
    begun(config, section(tmp_path), tmp_path / "run")
    before = (tmp_path / "run" / "tune.yaml").read_text()
    write(-1 if path.suffix == ".npz" else 2)
    with pytest.raises(
        RunDirectoryError, match=f"the {name} changed since the study began: restore the file"
    ) as caught:
        run_study(config, section(tmp_path), tmp_path / "run")
    assert str(caught.value).count("changed") == 1
    assert (tmp_path / "run" / "tune.yaml").read_text() == before


@pytest.mark.usefixtures("without_trials")
def test_a_moved_file_is_the_same(small, water_file, tmp_path):
    for name in ("one.npz", "two.npz"):
        (tmp_path / name).write_bytes(water_file.read_bytes())
        level = f"data.levels={{other: {{file: {tmp_path / name}, train: 20}}}}"
        config = small(
            *SHORT, "loss.pitc=1", f"data.file={tmp_path / name}", f"data.unlabeled={tmp_path / name}", level
        )
        begun(config, section(tmp_path), tmp_path / "run")


DAMAGE = {
    "another file": lambda data: b"hello" * 1000,
    "truncated": lambda data: data[:5000],
    "settings": lambda data: data.replace(b'"loss.pitc":', b'"loss.pitc";'),
    "state of a trial": lambda data: data.replace(b"RUNNING", b"RUNNINX"),
    "time of a trial": lambda data: data.replace(b"2031-", b"2031)"),
    "range": lambda data: data.replace(b'{"name": "FloatDistribution"', b'{"nAme": "FloatDistribution"'),
}


@pytest.mark.usefixtures("without_trials")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_study_is_one_line(small, tmp_path, damage):
    config, settings = small(*SHORT), section(tmp_path)
    begun(config, settings, tmp_path / "run")
    path = tmp_path / "run" / "study.db"
    trial = optuna.load_study(study_name="piwsl", storage=f"sqlite:///{path}").ask()
    trial.suggest_float("optimizer.learning_rate", 1e-4, 1e-1, log=True)
    year = str(trial.datetime_start.year).encode()
    path.write_bytes(DAMAGE[damage](path.read_bytes().replace(year + b"-", b"2031-")))
    with pytest.raises(ConfigError, match="choose another output=DIRECTORY") as caught:
        run_study(config, settings, tmp_path / "run")
    assert "study.db" in str(caught.value)
    assert "SQL:" not in str(caught.value)


@pytest.mark.slow
def test_a_diverged_trial_failed_and_does_not_end_the_search(small, tmp_path):
    ranges = {"optimizer.learning_rate": {"choices": [5e-3, 1e30]}}
    settings = section(tmp_path, trials=4, ranges=ranges, metric="loss", storage=str(tmp_path / "study.journal"))
    result = run_study(small(*SHORT), settings, tmp_path / "run")
    states = [trial.state for trial in result.trials]
    assert len(states) == 4
    assert states[0] == "completed"
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert all(trial.settings["optimizer.learning_rate"] == 1e30 for trial in failed)
    assert "not finite" in failed[0].reason or "the loss is" in failed[0].reason
    # The value of a trial is the validation loss of the weights that were kept.
    best = torch.load(result.best[0].directory / "checkpoints" / "best.ckpt", weights_only=True)
    scores = [one["best_model_score"] for name, one in best["callbacks"].items() if "validation/loss" in name]
    assert result.best[0].value == pytest.approx(float(scores[0]), rel=1e-6)
    only = section(tmp_path, trials=2, ranges={"optimizer.learning_rate": {"choices": [1e30, 1e31]}})
    with pytest.raises(PiwslError, match="no trial was completed; the last trial failed"):
        run_study(small(*SHORT), only, tmp_path / "none")


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_early(small, tmp_path):
    ranges = {"optimizer.learning_rate": {"choices": [5e-3, 1e-9]}}
    settings = section(tmp_path, trials=4, ranges=ranges, random_trials=1, prune_after=0)
    result = run_study(small(*SHORT), settings, tmp_path / "run")
    stopped = [trial for trial in result.trials if trial.state == "stopped early"]
    assert stopped
    assert all(trial.settings["optimizer.learning_rate"] == 1e-9 for trial in stopped)
    assert stopped[0].value > result.best[0].value
    never = settings.model_copy(update={"prune": False, "trials": 3})
    result = run_study(small(*SHORT), never, tmp_path / "all")
    assert {trial.state for trial in result.trials} == {"completed"}


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_is_done_again(small, tmp_path):
    steps = ("optimizer.steps=30", "optimizer.validation_interval=3")
    whole = {**small(*SHORT, *steps).model_dump(mode="json"), "tune": {"trials": 2, "ranges": RATES}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(whole))
    command = [sys.executable, "-m", "piwsl.cli", "tune", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run")]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "trial-0000" / "checkpoints" / "last.ckpt").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    config, settings = load_settings(tmp_path / "c.yaml")
    result = run_study(config, settings, tmp_path / "run")
    assert sorted(trial.state for trial in result.trials) == ["abandoned", "completed", "completed"]
    assert result.running == 0


@pytest.mark.slow
def test_an_interrupted_trial_is_done_again(small, tmp_path):
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_training(*arguments, **keywords)

    study, config = optuna.create_study(), small(*SHORT)
    settings = section(tmp_path, trials=2)
    worker = Worker(study, config, settings, training_frames(config), tmp_path / "run", train=interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.work(lambda _: None)
    worker.work(lambda _: None)
    assert [trial.state for trial in all_results(study, settings.metric)] == ["completed", "abandoned", "completed"]


def test_workers_that_are_silent_or_gone_are_noticed():
    study = optuna.create_study()
    here, now = host(), time.time()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    workers = [
        ({"host": here, "pid": os.getpid()}, now, "alive"),
        ({"host": here, "pid": gone.pid}, now, "dead"),
        ({"host": "elsewhere", "pid": gone.pid}, now, "alive"),
        ({"host": "elsewhere", "pid": 1}, now - GRACE - 1, "dead"),
        ({"host": here, "pid": os.getpid()}, now - GRACE - 1, "dead"),
    ]
    for worker, seen, _ in workers:
        trial = study.ask()
        trial.set_user_attr("worker", worker)
        trial.set_user_attr("seen", seen)
    study.ask()  # has not yet said who does it
    dead = [number for number, (_, _, state) in enumerate(workers) if state == "dead"]
    assert fail_abandoned(study) == dead
    assert [one.number for one in study.trials if one.state == TrialState.FAIL] == dead
    assert counted(study.trials) == [one for one in study.trials if one.number not in dead]


def test_two_workers_that_ask_for_the_last_turn_at_once(monkeypatch):
    study = optuna.create_study()
    first = next_trial(study, 2)
    ask = study.ask

    def overtaken():
        monkeypatch.setattr(study, "ask", ask)
        ask()
        return ask()

    monkeypatch.setattr(study, "ask", overtaken)
    assert next_trial(study, 2) is None
    assert [one.state for one in study.trials] == [TrialState.RUNNING, TrialState.RUNNING, TrialState.FAIL]
    study.tell(first, state=TrialState.FAIL)  # its worker died: its turn is free again
    assert next_trial(study, 2).number == 3
    assert next_trial(study, 2) is None


def test_values_lie_in_their_ranges_and_depend_on_seed_and_number(tmp_path):
    ranges = {
        "optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "optimizer.batch_size": {"low": 2, "high": 10, "step": 4},
        "loss.pitc": {"low": 1, "high": 3},
        "loss.mixing": {"choices": [0.0, 0.25]},
    }
    settings = section(tmp_path, ranges=ranges)
    current = {"optimizer.learning_rate": 1e-3, "optimizer.batch_size": 5, "loss.pitc": 1.0, "loss.mixing": 0.5}

    def draw(seed, count=30):
        study, found = optuna.create_study(), []
        for _ in range(count):
            trial = study.ask()
            study.sampler = FirstAsConfigured(seed, trial.number, 100, current)
            found.append(suggest(trial, settings, current))
        return found

    found = draw(0)
    # The batch size of the configuration is not on the grid, its mixing no choice: these two are drawn.
    assert (found[0]["optimizer.learning_rate"], found[0]["loss.pitc"]) == (1e-3, 1.0)
    assert {one["optimizer.batch_size"] for one in found} == {2, 6, 10}
    assert {one["loss.mixing"] for one in found} == {0.0, 0.25}
    assert all(isinstance(one["loss.pitc"], float) and 1 <= one["loss.pitc"] <= 3 for one in found)
    below = sum(one["optimizer.learning_rate"] < 10**-2.5 for one in found)
    assert 5 < below < 25
    assert draw(0, 5) == found[:5]
    assert draw(1, 5) != found[:5]


@pytest.mark.parametrize(
    ("tune_section", "message"),
    [
        ("{trails: 3, ranges: {loss.pitc: {low: 1, high: 2}}}", "unknown key tune.trails: did you mean tune.trials?"),
        (
            "{ranges: {loss.pitc: {low: 1, hihg: 2}}}",
            "unknown key tune.ranges.loss.pitc.hihg: did you mean tune.ranges.loss.pitc.high?",
        ),
        ("{ranges: {loss.pitc: {low: 2, high: 1}}}", "tune.ranges.loss.pitc: low 2 must be less than high 1"),
        ("{ranges: {loss.pitc: {low: 0, high: 1, log: true}}}", "log requires low above 0"),
        ("{ranges: {loss.pitc: {low: 1}}}", "set low and high, or choices"),
        ("{ranges: {loss.pitc: {low: 1, high: 2, choices: [3]}}}", "set either low and high, or choices"),
        ("{ranges: {}}", "tune.ranges"),
        ("{metric: validation/accuracy, ranges: {loss.pitc: {low: 1, high: 2}}}", "tune.metric"),
        ("{trials: 3}", "tune.ranges: field required"),
        ("3", "expected a mapping with keys such as trials"),
    ],
)
def test_mistakes_in_the_section_are_one_line(tmp_path, tune_section, message):
    (tmp_path / "c.yaml").write_text(f"data: {{system: aspirin}}\ntune: {tune_section}\n")
    with pytest.raises(ConfigError) as error:
        load_settings(tmp_path / "c.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "ranges", "message"),
    [
        ("force_mae", {"loss.pict": {"low": 1, "high": 2}}, "unknown key loss.pict: did you mean loss.pitc?"),
        ("force_mae", {"loss.mixing": {"low": 0.0, "high": 0.7}}, "loss.mixing = 0.7"),
        ("force_mae", {"optimizer.schedule": {"choices": ["cosine", "cosin"]}}, "optimizer.schedule = 'cosin'"),
        ("force_mae", {"data.train": {"low": 5, "high": 20}}, "changes the validation frames"),
        ("force_mae", {"seed": {"low": 0, "high": 9}}, "changes the validation frames"),
        ("loss", {"loss.forces": {"low": 1, "high": 9}}, "rescales the validation loss"),
        ("force_mae", {"displacement.length": {"low": 0.01, "high": 0.6}}, "displacement.cap"),
    ],
)
def test_ranges_are_tried_before_the_first_trial(small, tmp_path, metric, ranges, message):
    settings = section(tmp_path, metric=metric, ranges=ranges)
    with pytest.raises(ConfigError) as error:
        run_study(small(), settings, tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_metric_needs_its_label(small, water_file, tmp_path):
    with np.load(water_file) as archive:
        content = {key: archive[key] for key in archive.files if key != "forces"}
    np.savez(tmp_path / "energies.npz", **content)
    config = small(f"data.file={tmp_path / 'energies.npz'}", "loss.pisc=0", "loss.pitc=0")
    with pytest.raises(ConfigError, match="no validation frame has forces"):
        run_study(config, section(tmp_path), tmp_path / "run")
    hidden, said = small(*SHORT, "data.forces_fraction=0"), []
    run_study(
        hidden, section(tmp_path, trials=1), tmp_path / "hidden", on_data=lambda frames: said.extend(frames.lines())
    )
    assert any("tune.metric: energy_mae does not use forces" in line for line in said)


def test_a_schedule_can_be_searched(small, tmp_path):
    settings = section(
        tmp_path, ranges={"loss.pitc.last": {"low": 0.1, "high": 2.0}, "loss.pitc.end": {"low": 5, "high": 9}}
    )
    low, high, *_ = extremes(small(), settings)
    assert (low.loss.pitc.last, high.loss.pitc.last) == (0.1, 2.0)


def test_a_storage_that_cannot_be_opened_and_foreign_directories(small, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="cannot be opened"):
        run_study(small(), section(tmp_path, storage="sqlite:////nowhere/at/all.db"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"cannot be opened|driver of this database is missing"):
        run_study(small(), section(tmp_path, storage="postgresql://nobody@localhost:1/none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="holds no search"):
        run_study(small(), section(tmp_path), tmp_path / "other")
    (tmp_path / "run" / "trial-0000").mkdir(parents=True)
    (tmp_path / "run" / "tune.yaml").touch()
    with pytest.raises(RunDirectoryError, match="trials of another study"):
        run_study(small(), section(tmp_path), tmp_path / "run")


def test_a_database_that_another_worker_is_making_is_waited_for(tmp_path):
    from sqlalchemy.exc import IntegrityError

    calls = []

    def half_made(url):
        calls.append(1)
        if len(calls) < 3:
            raise IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed: alembic_version.version_num"))
        return open_storage(url)

    study = open_study(section(tmp_path), tmp_path, {"loss.pitc": 1.0}, connect=half_made)
    assert (len(calls), study.study_name) == (3, "piwsl")


def test_the_directory_of_a_search_may_have_any_name(tmp_path):
    output = tmp_path / "a?b=1#{} %20"
    output.mkdir()
    open_study(section(tmp_path), output, {"loss.pitc": 1.0})
    assert [path.name for path in output.iterdir()] == ["study.db"]
    assert list(tmp_path.iterdir()) == [output]


def test_a_study_on_a_full_disk(tmp_path):
    def full(url):
        raise OperationalError("statement", {}, Exception("database or disk is full"))

    with pytest.raises(ConfigError, match=r"database or disk is full.*: make room, then try again"):
        open_study(section(tmp_path), tmp_path, {}, connect=full)
