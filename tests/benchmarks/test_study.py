"""Studies: experiments are checked when they are read, runs are stored and not repeated, tables come from results."""

import json
from dataclasses import asdict

import pytest
import yaml

from benchmarks.study import runner
from benchmarks.study.__main__ import main
from benchmarks.study.experiment import FOLDER, Experiment, Run, load_experiment, runs_of
from benchmarks.study.report import plot, table
from benchmarks.study.runner import RESULT, Study, run_all
from piwsl.data.frames import FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.training.config import TrainingConfig
from piwsl.training.task import DivergedError
from tests.support.molecules import frame

TINY = {
    "question": "Does it work?",
    "data": {"file": "few.xyz", "test": 4, "get": "make it"},
    "common": {
        "data": {"train": 6, "validation": 3},
        "model": {"channels": 4, "layers": 1, "cutoff": 3.0, "walls": "none"},
        "optimizer": {"steps": 2, "batch_size": 2, "validation_interval": 1},
    },
    "baseline": "plain",
    "variants": {"plain": {"loss": {"pitc": 0}}, "PITC": {"loss": {"pitc": 1}}},
    "equal": "steps",
    "seeds": [0, 1],
}


@pytest.fixture
def study(tmp_path):
    write_frames(FrameSet([frame("H2O", seed=seed, labeled=True) for seed in range(20)]), tmp_path / "few.xyz")
    return Study("tiny", Experiment.model_validate(TINY), tmp_path / "out", tmp_path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_experiments_are_valid_and_ask_a_question(path):
    experiment = load_experiment(path.stem)
    assert experiment.question.endswith("?")
    for run in runs_of(experiment, None, [], small=True):
        assert isinstance(experiment.config(run.case, run.variant, small=True), TrainingConfig)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"varieties": {}}, "varieties: Extra inputs are not permitted"),
        ({"baseline": "none"}, "baseline: none is not a variant: choose from plain, PITC"),
        ({"common": {"loss": {"pict": 1}}}, "variant plain: loss.pict: Extra inputs"),
    ],
)
def test_a_mistake_in_an_experiment_is_one_line(tmp_path, capsys, change, message):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**TINY, **change}, sort_keys=False))
    assert main(["run", str(tmp_path / "own.yaml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_data_names_what_brings_them(tmp_path):
    study = Study("tiny", Experiment.model_validate(TINY), tmp_path / "out", tmp_path)
    with pytest.raises(DataError, match=r"few\.xyz: missing; make it, and set PIWSL_DATA"):
        study.parts()
    with pytest.raises(ConfigError, match=r"no such experiment: choose from .*few-forces"):
        load_experiment("few-farces")


def test_test_frames_are_the_same_for_all_runs_and_no_run_trains_on_them(study):
    pool, test = (piece.read_text() for piece in study.parts())
    assert (pool.count("REF_energy="), test.count("REF_energy=")) == (16, 4)
    energies = {line.split("REF_energy=")[1].split()[0] for line in test.splitlines() if "REF_energy" in line}
    assert not any(f"REF_energy={energy} " in pool for energy in energies)
    assert study.config(Run("", "plain", 5)).data.test == 0


def test_equal_time_follows_the_costs(study, monkeypatch):
    timed = Study("tiny", study.experiment.model_copy(update={"equal": "time"}), study.output, study.source)
    costs = {"plain": 1.0, "PITC": 2.0}
    monkeypatch.setattr(Study, "_cost_of", lambda self, run: costs[run.variant])
    assert [timed.config(Run("", name, 0)).optimizer.steps for name in costs] == [2, 1]
    costs["PITC"] = 50.0  # measured once
    assert timed.config(Run("", "PITC", 0)).optimizer.steps == 1


def test_costs_are_those_of_steps(study, monkeypatch):
    """The time of a step, without that of reading, validations and the end."""
    clock = iter(range(100))
    monkeypatch.setattr(runner.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(runner, "_train", lambda config, directory, progress: [progress(None) for _ in range(9)])
    assert study._cost_of(Run("", "plain", 0)) == 1.0


def test_a_stored_run_is_not_repeated(study, capsys, monkeypatch):
    run = Run("", "plain", 0)
    assert not study.is_done(run)
    study.perform(run)
    assert study.is_done(run)
    assert run_all(study, [run], [], 1) == 0
    assert "1 runs, 1 of them stored" in capsys.readouterr().out
    assert not study.is_done(Run("", "plain", 1))
    monkeypatch.setattr(runner.piwsl, "__version__", "0.0")
    assert not study.is_done(run)
    assert "computed again" in capsys.readouterr().out


def test_a_run_that_diverges_is_a_result(study, monkeypatch):
    def diverge(*_):
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(runner, "_train", lambda *_, **__: diverge())
    run = Run("", "PITC", 0)
    assert study.perform(run)["outcome"] == "diverged"
    assert "PITC (1 of 1 diverged)" in table(study.experiment, study.results([run]))


@pytest.mark.slow
def test_a_process_makes_a_run_and_its_error_is_one_line(study, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    arguments = [str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "out"), "--data", str(tmp_path)]
    assert run_all(study, [Run("", "plain", 0)], arguments, 1) == 0
    assert (study.directory(Run("", "plain", 0)) / RESULT).is_file()
    (tmp_path / "few.xyz").unlink()
    (study.parts()[0]).unlink()
    assert main(["one", *arguments, "--run", json.dumps(asdict(Run("", "PITC", 0)))]) == 2
    assert "missing; make it" in capsys.readouterr().err


def results(*rows):
    keys = ("case", "variant", "seed", "energy_mae_mev", "force_mae_mev_per_angstrom")
    return [{**dict(zip(keys, row, strict=True)), "steps": 2, "outcome": "completed"} for row in rows]


def test_table_and_figure_come_from_the_results(study, tmp_path):
    found = results(
        ("", "plain", 0, 10.0, 100.0),
        ("", "plain", 1, 12.0, 110.0),
        ("", "PITC", 0, 5.0, 101.0),
        ("", "PITC", 1, 6.0, None),
    )
    lines = table(study.experiment, found).splitlines()
    assert lines[0] == "| case | variant | steps | E MAE, meV | relative | F MAE, meV/A | relative |"
    assert lines[2] == "| - | plain | 2 | 11.0 +- 1.4 | 1.00, 1.00 | 105.0 +- 7.1 | 1.00, 1.00 |"
    assert lines[3] == "| - | PITC | 2 | 5.5 +- 0.7 | 0.50, 0.50 | 101.0 | 1.01 |"
    plot(study.experiment, found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
