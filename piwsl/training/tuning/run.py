"""Search for settings: trials compared on the validation frames, and a final evaluation on the test frames."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Any, ClassVar

import yaml
from matplotlib.figure import Figure
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from pydantic import BaseModel

from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, PiwslError, RunDirectoryError, reason_of
from piwsl.export.loading import model_files
from piwsl.export.trained_file import DTYPES, MODEL_FILE, load_trained
from piwsl.runs import notebook
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import LOCK_FILE, DirectoryKind, RunDirectory, locked
from piwsl.runs.files import sha256, source_hash, write_text, writing
from piwsl.runs.process_settings import process_settings
from piwsl.runs.summary import RunSummary, iso, now, provenance
from piwsl.training.config import TrainingConfig
from piwsl.training.data import training_frames
from piwsl.training.data_checks import check_against_data
from piwsl.training.data_config import DataConfig, LevelConfig
from piwsl.training.distributed.devices import chosen_device
from piwsl.training.distributed.processes import launched_processes
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.frames import TrainingFrames
from piwsl.training.metrics import Errors
from piwsl.training.presets import resolved
from piwsl.training.start import start_file
from piwsl.training.stored_split import hashes_of
from piwsl.training.tuning.plots import history_figure, history_plot, settings_plot
from piwsl.training.tuning.results import UNITS, TrialResult, all_results, best_first, setting_text, trials_csv
from piwsl.training.tuning.search import Worker, fail_abandoned
from piwsl.training.tuning.settings import Scalar, TuneConfig, extremes, with_settings
from piwsl.training.tuning.study import SHA256, STUDY_FILE, damage_as_error, open_study

CONFIG_FILE = "tune.yaml"
BEST_FILE = "best.yaml"
TABLE_FILE = "trials.csv"
HISTORY_PLOT, SETTINGS_PLOT = "history.png", "settings.png"
SEARCH = DirectoryKind(job="a search", marks=(CONFIG_FILE, STUDY_FILE))
_NOT_AGREED = (
    *("accelerator", "threads", "data.workers"),
    *("data.file", "data.test_file", "data.unlabeled"),
    *("start.init_from", "teacher.file"),
)


class BestTrial(BaseModel):
    """Entry of the best trial in the summary of a search."""

    trial: int
    settings: dict[str, Scalar]
    value: float | None
    model: str | None
    model_sha256: str | None


class TuneSummary(RunSummary):
    """Summary of a search. ``wall_seconds`` is the sum over all trials.

    Attributes:
        inputs: Source of the data and its hash.
        metric: Error by which trials are compared.
        trials: Number of trials by state.
        best: Best trial.
        test: Test errors of the best model. None without test frames, or if this machine does not have the model file.
    """

    job: ClassVar[str] = "a search"

    inputs: dict[str, str]
    metric: str
    trials: dict[str, int]
    best: BestTrial
    test: Errors | None = None


_PATIENCE = 120.0  # s to wait for workers that open the study
_SHOWN = 10  # largest number of trials in the table


@dataclass(frozen=True)
class TuneResult:
    """Result of a search, returned by each worker when it ends.

    Attributes:
        directory: Directory of the search.
        settings: Section `tune`.
        trials: All trials of the study.
        best: Completed trials in order of increasing validation error.
        running: Number of trials that other workers are running. The result is final if it is 0.
        config: Complete configuration of the best trial. None while other trials are running.
        test: Test errors of the best model. None without test frames, or if this machine does not have the model file.
    """

    directory: Path
    settings: TuneConfig
    trials: list[TrialResult]
    best: list[TrialResult]
    running: int
    config: TrainingConfig | None
    test: Errors | None

    def plot(self) -> Figure:
        """Draw the validation error of each trial, with the best error so far."""
        return history_figure(self.trials, self.settings)

    def __repr__(self) -> str:
        best = self.best[0].value_text if self.best else "none completed"
        return f"TuneResult({len(self.trials)} trials in {str(self.directory)!r}; best: {best})"

    def _repr_html_(self) -> str:
        keys = list(self.settings.ranges)
        rows = [
            (
                trial.number,
                trial.value_text,
                *(setting_text(trial.settings[key]) if key in trial.settings else "" for key in keys),
            )
            for trial in self.best[:_SHOWN]
        ]
        return notebook.block(
            notebook.facts(
                [("search", self.directory), ("trials", len(self.trials)), ("running", self.running or None)]
            ),
            notebook.table(rows, ("trial", f"validation {UNITS[self.settings.metric][0]}", *keys)),
            notebook.lines(f"test: {line}" for line in self.test.lines()) if self.test else "",
            notebook.picture(self.plot(), "validation error of each trial"),
        )


def run_study(
    config: TrainingConfig,
    settings: TuneConfig,
    output: Path,
    on_data: Callable[[TrainingFrames], None] | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> TuneResult:
    """Run trials until the study contains the requested number. The same call joins or continues a study.

    Each trial is a training run in ``output/trial-NUMBER`` without test frames. The last worker to finish writes the
    best configuration, a table, two plots, and a summary with the test errors of the best model.

    Args:
        config: Configuration whose settings are tuned.
        settings: Section `tune`.
        output: Directory of the search. Workers of one study may share it.
        on_data: Function called with the frames before the first trial.
        on_trial: Function called with the result of each trial of this worker.

    Raises:
        ConfigError: A range does not fit the configuration or the data, or the storage cannot be opened.
        RunDirectoryError: The directory contains other files, or the study was created with other settings.
        PiwslError: No trial was completed, or the storage became unavailable.
    """
    config = resolved(config)
    with process_settings(config.threads, config.deterministic):
        return _run_study(config, settings, output, on_data, on_trial or (lambda _: None))


def _run_study(
    config: TrainingConfig,
    settings: TuneConfig,
    output: Path,
    on_data: Callable[[TrainingFrames], None] | None,
    on_trial: Callable[[TrialResult], None],
) -> TuneResult:
    ends = extremes(config, settings)
    directory = RunDirectory(output, SEARCH)
    if not directory.holds_job:
        directory.check_free()
    frames = training_frames(config)
    for end in ends:
        check_against_data(end, frames)
    _check_metric(settings, frames)
    if settings.metric == "force_mae" and not frames.labels["training"].forces:
        frames.report.notes.append(
            "no training frame has forces, but tune.metric: force_mae compares trials by the forces of the validation "
            "frames; tune.metric: energy_mae does not use forces"
        )
    if on_data:
        on_data(frames)
    # Without the lock, two workers that create a study with different settings would not notice the difference.
    with _prepared(directory), locked(output, patience=_PATIENCE):
        study = open_study(settings, output, _agreed(config, settings, frames))
        _check_readable(study, settings)
    _write_settings(config, settings, output)
    try:
        _check_trials(study, output)
        Worker(study, config, settings, frames, output).work(on_trial)
        return _result(study, config, settings, frames, output)
    except StorageInternalError as error:
        raise PiwslError(
            f"the storage of the study is unavailable ({reason_of(error)}): repeat the call to continue"
        ) from None


def _check_metric(settings: TuneConfig, frames: TrainingFrames) -> None:
    labels = frames.labels["validation"]
    counts = {"force_mae": (labels.forces, "forces"), "energy_mae": (labels.energies, "an energy")}
    count, label = counts.get(settings.metric, (1, ""))
    if not count:
        raise ConfigError(f"tune.metric: {settings.metric}: no validation frame has {label}: choose another metric")


def _check_readable(study: Study, settings: TuneConfig) -> None:
    """Read all trials, because damage would otherwise show up after hours of training."""
    with damage_as_error(settings):
        fail_abandoned(study)
        for trial in all_results(study, settings.metric):
            valid = isinstance(trial.seconds, int | float | None) and isinstance(trial.reason, str | None)
            if not valid or not set(trial.settings) <= set(settings.ranges):
                raise ValueError(f"trial {trial.number} has unknown settings or results")


def _check_trials(study: Study, output: Path) -> None:
    if not study.get_trials(deepcopy=False) and any(output.glob("trial-*")):
        raise RunDirectoryError(
            f"{output}: the directory contains trials of another study: choose another output=DIRECTORY, or delete them"
        )


@contextmanager
def _prepared(directory: RunDirectory) -> Iterator[None]:
    """Create the directory for the block. If the block fails, remove a directory that is new and empty."""
    existed = directory.path.exists()
    directory.create()
    try:
        yield
    except PiwslError:
        if not existed:
            with suppress(OSError):  # Another worker uses the directory.
                (directory.path / LOCK_FILE).unlink(missing_ok=True)
                directory.path.rmdir()
        raise


def _write_settings(config: TrainingConfig, settings: TuneConfig, output: Path) -> None:
    whole = {**config.model_dump(mode="json"), "tune": settings.model_dump(mode="json", exclude_defaults=True)}
    with writing(output / CONFIG_FILE):
        write_text(output / CONFIG_FILE, yaml.safe_dump(whole, sort_keys=False))


def _agreed(config: TrainingConfig, settings: TuneConfig, frames: TrainingFrames) -> dict[str, Any]:
    """Return the flat settings that all workers of a study must share. Files are compared by hash."""
    ranges = {key: chosen.model_dump(exclude_defaults=True, mode="json") for key, chosen in settings.ranges.items()}
    common: dict[str, Any] = {"tune.metric": settings.metric, "tune.ranges": ranges}
    for section, values in config.model_dump(mode="json").items():
        flat = {f"{section}.{key}": value for key, value in values.items()} if isinstance(values, dict) else None
        common.update(flat or {section: values})
    for name, level in (config.data.levels or {}).items():
        common["data.levels"][name]["file"] = ""
        if isinstance(level.reference_energies, Path):
            common["data.levels"][name]["reference_energies"] = ""
    if isinstance(config.data.reference_energies, Path):
        common["data.reference_energies"] = ""
    hashes = {f"{SHA256}{name}": value for name, value in _hashes_of_files(config, frames).items()}
    return {key: value for key, value in common.items() if key not in _NOT_AGREED} | hashes


def _hashes_of_files(config: TrainingConfig, frames: TrainingFrames) -> dict[str, str]:
    """Return the hashes of all files that affect the result of a trial."""
    teacher = "" if config.teacher.file is None else ",".join(sha256(path) for path in model_files(config.teacher.file))
    hashes = hashes_of(frames, teacher)
    if config.start.init_from is not None:
        hashes["start file"] = start_file(config.start.init_from)[1]
    if isinstance(config.start.replay, str):
        hashes["replay file"] = source_hash(read_frames(config.start.replay, config.data.units).files)
    sections: dict[str, DataConfig | LevelConfig] = {"": config.data, **(config.data.levels or {})}
    for name, level in sections.items():
        if isinstance(level.reference_energies, Path):
            hashes[f"reference energies of level {name}" if name else "reference energies"] = sha256(
                level.reference_energies
            )
    return hashes


def _result(
    study: Study, config: TrainingConfig, settings: TuneConfig, frames: TrainingFrames, output: Path
) -> TuneResult:
    trials = all_results(study, settings.metric)
    best = best_first(trials)
    running = sum(trial.state == "running" for trial in trials)
    if not best and not running:
        reasons = [trial.reason for trial in trials if trial.reason]
        raise PiwslError(
            f"no trial was completed; the last trial failed: {reasons[-1]}"
            if reasons
            else "the study contains no trials"
        )
    if running:
        return TuneResult(output, settings, trials, best, running, None, None)
    best_config = with_settings(config, best[0].settings)
    model = best[0].directory / MODEL_FILE if best[0].directory else None
    test = None
    if model is not None and model.exists() and len(frames.test):
        trained = load_trained(model)
        potential = trained.potential().to(chosen_device(config, launched_processes()))
        test = evaluate_potential(potential, frames.test, trained.config.cutoff, DTYPES[trained.dtype])
    write_text(output / BEST_FILE, to_yaml(best_config))
    write_text(output / TABLE_FILE, trials_csv(trials, settings.metric))
    history_plot(trials, settings, output / HISTORY_PLOT)
    settings_plot(trials, settings, output / SETTINGS_PLOT)
    started = study.get_trials(deepcopy=False)[0].datetime_start
    TuneSummary(
        **provenance(("torch", "lightning", "numpy", "optuna"))
        | {"started": iso(started.astimezone(timezone.utc)) if started else ""},
        finished=now(),
        wall_seconds=round(sum(trial.seconds or 0.0 for trial in trials), 1),
        inputs={"data": str(frames.source), "sha256": frames.sha256},
        metric=f"validation/{settings.metric}",
        trials=dict(Counter(trial.state for trial in trials)),
        best=BestTrial(
            trial=best[0].number,
            settings=best[0].settings,
            value=best[0].value,
            model=str(model) if model else None,
            model_sha256=sha256(model) if model is not None and model.exists() else None,
        ),
        test=test,
        outputs={"best": BEST_FILE, "trials": TABLE_FILE, "history": HISTORY_PLOT, "settings": SETTINGS_PLOT},
        result="completed",
    ).write(output)
    return TuneResult(output, settings, trials, best, 0, best_config, test)
