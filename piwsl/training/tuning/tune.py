"""Search for good settings: trials on the validation frames, one look at the test frames at the end."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from piwsl._version import __version__
from piwsl.errors import ConfigError, PiwslError, RunDirectoryError
from piwsl.export.trained_file import DTYPES, load_trained
from piwsl.runs.config import to_yaml
from piwsl.runs.files import sha256, write_text
from piwsl.runs.process import process_settings
from piwsl.runs.provenance import versions
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames
from piwsl.training.directory import MODEL_FILE
from piwsl.training.distributed.devices import chosen_device
from piwsl.training.distributed.processes import launched_processes
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.metrics import Errors
from piwsl.training.sources import check_against_data, training_frames, with_absolute_sources
from piwsl.training.start import with_network_of_start
from piwsl.training.tuning.plots import history_plot, settings_plot
from piwsl.training.tuning.results import TrialResult, all_results, best_first, trials_csv
from piwsl.training.tuning.search import Worker
from piwsl.training.tuning.settings import TuneConfig, extremes, with_settings
from piwsl.training.tuning.study import STUDY_FILE, open_study

CONFIG_FILE = "tune.yaml"
BEST_FILE = "best.yaml"
TABLE_FILE = "trials.csv"
SUMMARY_FILE = "summary.json"
HISTORY_PLOT, SETTINGS_PLOT = "history.png", "settings.png"
_NOT_AGREED = ("accelerator", "threads", "data.file", "data.test_file", "data.workers")


@dataclass(frozen=True)
class TuneResult:
    """What a worker knows when it ends.

    Attributes:
        trials: all trials of the study.
        best: completed trials, the smallest validation error first.
        running: trials under way in other workers; the result is final when there is none.
        config: the best configuration, complete; None while trials run, or where none was completed.
        test: test errors of the best trial's model; None without test frames, or where its model is not here.
    """

    trials: list[TrialResult]
    best: list[TrialResult]
    running: int
    config: TrainingConfig | None
    test: Errors | None


def tune(
    config: TrainingConfig,
    settings: TuneConfig,
    output: Path,
    on_data: Callable[[TrainingFrames], None] | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> TuneResult:
    """Do trials until the study has as many as asked for; the same call joins or goes on with a study.

    Each trial is a training run in ``output/trial-NUMBER`` without test frames. The worker that ends last writes the
    best configuration, a table, two plots and a summary, with the test errors of the best model.

    Args:
        config: what the trials change.
        settings: the section `tune`.
        output: directory of the search; workers of one study may share it.
        on_data: called with the frames before the first trial.
        on_trial: called after every trial of this worker.

    Raises:
        ConfigError: a range does not fit the configuration or the data, or the storage cannot be opened.
        RunDirectoryError: the directory holds something else, or the study was made with other settings.
        PiwslError: no trial was completed, or the storage does not answer any more.
    """
    config = with_network_of_start(with_absolute_sources(config))
    with process_settings(config.threads, config.deterministic):
        return _tune(config, settings, output, on_data, on_trial or (lambda _: None))


def _tune(
    config: TrainingConfig,
    settings: TuneConfig,
    output: Path,
    on_data: Callable[[TrainingFrames], None] | None,
    on_trial: Callable[[TrialResult], None],
) -> TuneResult:
    ends = extremes(config, settings)
    _check_directory(output)
    frames = training_frames(config)
    for end in ends:
        check_against_data(end, frames)
    _check_metric(settings, frames)
    if settings.metric == "force_mae" and not frames.labels["training"].forces:
        frames.report.notes.append(
            "no training frame has forces, but trials are judged by those of the validation frames: metric energy_mae "
            "would not use them"
        )
    if on_data:
        on_data(frames)
    with _prepared(output):
        study = open_study(settings, output, _agreed(config, settings, frames))
    _write_settings(config, settings, output)
    try:
        _check_trials(study, output)
        Worker(study, config, settings, frames, output).work(on_trial)
        return _result(study, config, settings, frames, output)
    except StorageInternalError as error:
        raise PiwslError(f"the storage of the study is lost ({_first_line(error)}): the same command goes on") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_metric(settings: TuneConfig, frames: TrainingFrames) -> None:
    labels = frames.labels["validation"]
    counts = {"force_mae": (labels.forces, "forces"), "energy_mae": (labels.energies, "an energy")}
    count, label = counts.get(settings.metric, (1, ""))
    if not count:
        raise ConfigError(f"tune.metric: {settings.metric}: no validation frame has {label}: choose another metric")


def _check_directory(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file: choose another --output")
    if (
        output.is_dir()
        and any(output.iterdir())
        and not any((output / name).exists() for name in (CONFIG_FILE, STUDY_FILE))
    ):
        raise RunDirectoryError(f"{output} is not empty and holds no search: choose another --output")


def _check_trials(study: Study, output: Path) -> None:
    if not study.get_trials(deepcopy=False) and any(output.glob("trial-*")):
        raise RunDirectoryError(f"{output} holds trials of another study: choose another --output, or delete them")


@contextmanager
def _prepared(output: Path) -> Iterator[None]:
    """The directory is there within the block; if it is new, empty, and the block fails, it goes again."""
    existed = output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{output} cannot be written: {error.strerror}") from None
    try:
        yield
    except PiwslError:
        if not existed:
            with suppress(OSError):  # another worker writes in it
                output.rmdir()
        raise


def _write_settings(config: TrainingConfig, settings: TuneConfig, output: Path) -> None:
    whole = {**config.model_dump(mode="json"), "tune": settings.model_dump(mode="json", exclude_defaults=True)}
    try:
        write_text(output / CONFIG_FILE, yaml.safe_dump(whole, sort_keys=False))
    except OSError as error:
        raise RunDirectoryError(f"{output} cannot be written: {error.strerror}") from None


def _agreed(config: TrainingConfig, settings: TuneConfig, frames: TrainingFrames) -> dict[str, Any]:
    """What workers of one study must have in common, flat; files count by their content."""
    ranges = {key: chosen.model_dump(exclude_defaults=True, mode="json") for key, chosen in settings.ranges.items()}
    common = {"tune.metric": settings.metric, "tune.ranges": ranges, "data.sha256": frames.sha256}
    for section, values in config.model_dump(mode="json").items():
        flat = {f"{section}.{key}": value for key, value in values.items()} if isinstance(values, dict) else None
        common.update(flat or {section: values})
    return {key: value for key, value in common.items() if key not in _NOT_AGREED}


def _result(
    study: Study, config: TrainingConfig, settings: TuneConfig, frames: TrainingFrames, output: Path
) -> TuneResult:
    trials = all_results(study)
    best = best_first(trials)
    running = sum(trial.state == "running" for trial in trials)
    if not best and not running:
        reasons = [trial.reason for trial in trials if trial.reason]
        raise PiwslError(f"no trial was completed; the last one failed: {reasons[-1]}" if reasons else "no trial")
    if running:
        return TuneResult(trials, best, running, None, None)
    found = with_settings(config, best[0].settings)
    model = best[0].directory / MODEL_FILE if best[0].directory else None
    test = None
    if model is not None and model.exists() and len(frames.test):
        trained = load_trained(model)
        potential = trained.potential().to(chosen_device(config, launched_processes()))
        test = evaluate_potential(potential, frames.test, trained.config.cutoff, DTYPES[trained.dtype])
    write_text(output / BEST_FILE, to_yaml(found))
    write_text(output / TABLE_FILE, trials_csv(trials, settings.metric))
    history_plot(trials, settings, output / HISTORY_PLOT)
    settings_plot(trials, settings, output / SETTINGS_PLOT)
    summary = {
        "piwsl_version": __version__,
        "versions": versions(("torch", "lightning", "numpy", "optuna")),
        "inputs": {"data": str(frames.source), "sha256": frames.sha256},
        "metric": f"validation/{settings.metric}",
        "trials": Counter(trial.state for trial in trials),
        "best": {
            "trial": best[0].number,
            "settings": best[0].settings,
            "value": best[0].value,
            "model": str(model) if model else None,
            "model_sha256": sha256(model) if model is not None and model.exists() else None,
        },
        "test": asdict(test) if test else None,
        "outputs": [BEST_FILE, TABLE_FILE, HISTORY_PLOT, SETTINGS_PLOT],
        "result": "completed",
    }
    write_text(output / SUMMARY_FILE, json.dumps(summary, indent=1))
    return TuneResult(trials, best, 0, found, test)
