"""What `piwsl tune` shows: a line for each trial, and the result."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from piwsl.training.tuning.results import setting_text, settings_yaml, table, value_text

if TYPE_CHECKING:
    from piwsl.training.data import TrainingFrames
    from piwsl.training.tuning.results import TrialResult
    from piwsl.training.tuning.settings import TuneConfig
    from piwsl.training.tuning.tune import TuneResult

_SHOWN = 10  # trials in the table of the best


class TuneDisplay:
    """Prints the data report, each trial of this worker, and what came out."""

    def __init__(self, settings: "TuneConfig") -> None:
        self.settings = settings

    def data(self, frames: "TrainingFrames") -> None:
        """Print the data report."""
        for line in frames.lines():
            click.echo(line, err=line.startswith("warning:"))

    def trial(self, trial: "TrialResult") -> None:
        """Print one trial."""
        settings = "  ".join(f"{key} {setting_text(value)}" for key, value in trial.settings.items())
        value = "" if trial.value is None else f"  {value_text(self.settings.metric, trial.value)}"
        reason = f"  ({trial.reason})" if trial.reason else ""
        minutes = "" if trial.seconds is None else f"  {trial.seconds / 60:.1f} min"
        click.echo(f"trial {trial.number}  {trial.state}{value}  {settings}{minutes}{reason}")

    def result(self, result: "TuneResult", output: Path) -> None:
        """Print the best trials, the best settings as YAML, and the test errors of the best."""
        counts = Counter(trial.state for trial in result.trials)
        click.echo(f"{len(result.trials)} trials: {', '.join(f'{number} {state}' for state, number in counts.items())}")
        for line in table(result.best[:_SHOWN], self.settings.metric):
            click.echo(line)
        if result.config is None:
            click.echo(f"{result.running} trials run in other workers: the last of them writes the result")
            return
        click.echo(f"\n# best settings (trial {result.best[0].number}), chosen by the validation frames")
        click.echo(settings_yaml(result.best[0].settings))
        if result.test is not None:
            for line in result.test.lines():
                click.echo(f"test       {line}")
        click.echo(f"complete configuration {output / 'best.yaml'}; table, plots and summary beside it")
