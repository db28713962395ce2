"""Results of a search: trials, best settings, and their text formats."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from piwsl.errors import PiwslError
from piwsl.runs.files import csv_text
from piwsl.training.tuning.settings import Scalar
from piwsl.training.tuning.study import DIRECTORY, REASON, SECONDS, SURPLUS

STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
UNITS = {"force_mae": ("force MAE", 1e3, "meV/A"), "energy_mae": ("energy MAE", 1e3, "meV"), "loss": ("loss", 1.0, "")}


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial.

    Attributes:
        number: Index of the trial, from 0, as in the name of its directory.
        state: ``completed``, ``stopped early``, ``failed``, ``running`` or ``abandoned`` (its worker died).
        settings: Value of each tuned setting.
        value: Error of the best validation, or of the last validation if the trial was stopped. None if it failed.
        seconds: Duration of the trial, s.
        directory: Run directory.
        reason: Error message of a failed trial.
        metric: Name of the validation error.
    """

    number: int
    state: str
    settings: dict[str, Scalar]
    value: float | None
    seconds: float | None
    directory: Path | None
    reason: str | None
    metric: str = "loss"

    @property
    def value_text(self) -> str:
        """Validation error with its unit, as text."""
        return value_text(self.metric, self.value)


def all_results(study: Study, metric: str) -> list[TrialResult]:
    """Return the results of all trials of a study, except surplus trials."""
    return [
        trial_result(trial, metric) for trial in study.get_trials(deepcopy=False) if SURPLUS not in trial.user_attrs
    ]


def trial_result(trial: FrozenTrial, metric: str) -> TrialResult:
    """Return the result of an Optuna trial."""
    attributes = trial.user_attrs
    abandoned = trial.state == TrialState.FAIL and REASON not in attributes
    directory = attributes.get(DIRECTORY)
    return TrialResult(
        number=trial.number,
        state="abandoned" if abandoned else STATES[trial.state],
        settings=dict(trial.params),
        value=trial.value if trial.values else None,
        seconds=attributes.get(SECONDS),
        directory=Path(directory) if directory else None,
        reason=attributes.get(REASON),
        metric=metric,
    )


def validation_loss(directory: Path) -> float:
    """Return the smallest validation loss in the metrics of a run, which is the loss of its trained file.

    Raises:
        PiwslError: The metrics contain no validation loss.
    """
    values = []
    for path in directory.glob("metrics*/metrics.csv"):
        with path.open(newline="", encoding="utf-8") as stream:
            values += [float(row["validation/loss"]) for row in csv.DictReader(stream) if row.get("validation/loss")]
    if not values:
        raise PiwslError(f"{directory}: the metrics contain no validation loss: check the log of this run")
    return min(values)


def best_first(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the completed trials in order of increasing error."""
    completed = [trial for trial in trials if trial.state == "completed" and trial.value is not None]
    return sorted(completed, key=lambda trial: trial.value if trial.value is not None else 0.0)


def value_text(metric: str, value: float | None) -> str:
    """Return an error with its unit as text, or ``-`` for None."""
    if value is None:
        return "-"
    _, factor, unit = UNITS[metric]
    return f"{factor * value:.4g} {unit}".rstrip()


def setting_text(value: Scalar) -> str:
    """Return a setting as text with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(trials: Sequence[TrialResult], metric: str) -> list[str]:
    """Return a table of the trials as lines of text, with a header line."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    rows = [["trial", UNITS[metric][0], *keys, "minutes"]]
    for trial in trials:
        minutes = "-" if trial.seconds is None else f"{trial.seconds / 60:.1f}"
        values = [setting_text(trial.settings[key]) if key in trial.settings else "-" for key in keys]
        rows.append([str(trial.number), value_text(metric, trial.value), *values, minutes])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def settings_yaml(settings: dict[str, Scalar]) -> str:
    """Return settings as YAML for a configuration file."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return yaml.safe_dump(nested, sort_keys=False)


def trials_csv(trials: Sequence[TrialResult], metric: str) -> str:
    """Return the trials as CSV. Errors are in eV and angstrom."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    rows = []
    for trial in trials:
        values = [trial.settings.get(key) for key in keys]
        rows.append([trial.number, trial.state, trial.value, *values, trial.seconds, trial.directory, trial.reason])
    return csv_text(["trial", "state", f"validation/{metric}", *keys, "seconds", "directory", "reason"], rows)
