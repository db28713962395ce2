"""`piwsl tune`: search for good coefficients and settings."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from piwsl.cli.command import Command, key_values, overrides_option
from piwsl.runs.progress import to_stderr

if TYPE_CHECKING:
    from piwsl.training.tuning.results import TrialResult
    from piwsl.training.tuning.run import TuneResult

_SHOWN = 10  # number of best trials in the table


@click.command(name="tune", cls=Command)
@click.argument("config_file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the search.  [default: runs/tune-NAME]")
@click.option("--storage", help="Database URL (sqlite:///study.db, postgresql://...) or journal file of the study.")
@click.option("--trials", type=click.IntRange(1), help="Total number of trials of all workers.")
@overrides_option("loss.pisc=0")
def command(
    config_file: Path, output: Path | None, storage: str | None, trials: int | None, overrides: tuple[str, ...]
) -> None:
    """Search the ranges in the section tune of CONFIG_FILE for the smallest validation error.

    The same command joins a running search or resumes an interrupted search. Start the command once per processor or
    machine, with a --storage that all of them can access. The test frames are evaluated once, at the end.
    """
    from piwsl.cli.logs import echoing
    from piwsl.cli.train import print_data
    from piwsl.training.tuning.tune import tune

    with echoing("piwsl.training.inputs", lambda record: to_stderr(record.getMessage())):
        result = tune(
            config_file,
            output=output,
            storage=storage,
            trials=trials,
            options=key_values(overrides),
            progress=_print_trial,
            on_data=print_data,
        )
    _print_result(result)


def _print_trial(trial: "TrialResult") -> None:
    from piwsl.training.tuning.results import setting_text

    settings = "  ".join(f"{key} {setting_text(value)}" for key, value in trial.settings.items())
    value = f"  {trial.value_text}" if trial.value is not None else ""
    reason = f"  ({trial.reason})" if trial.reason else ""
    minutes = "" if trial.seconds is None else f"  {trial.seconds / 60:.1f} min"
    click.echo(f"trial {trial.number}  {trial.state}{value}  {settings}{minutes}{reason}")


def _print_result(result: "TuneResult") -> None:
    from piwsl.training.tuning.results import settings_yaml, table

    counts = Counter(trial.state for trial in result.trials)
    click.echo(f"{len(result.trials)} trials: {', '.join(f'{number} {state}' for state, number in counts.items())}")
    for line in table(result.best[:_SHOWN], result.settings.metric):
        click.echo(line)
    if result.config is None:
        click.echo(f"{result.running} trials are running in other workers: the last worker writes the result")
        return
    click.echo(f"\n# best settings (trial {result.best[0].number}), chosen by the validation frames")
    click.echo(settings_yaml(result.best[0].settings))
    for line in result.test.lines() if result.test is not None else ():
        click.echo(f"test       {line}")
    click.echo(
        f"complete configuration: {result.directory / 'best.yaml'}; table, plots and summary are in the same directory"
    )
