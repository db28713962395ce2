"""`piwsl tune`: search for good coefficients and settings."""

from pathlib import Path

import click


@click.command(name="tune")
@click.argument("config_file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the search.  [default: runs/tune-NAME]")
@click.option("--storage", help="Database URL (sqlite:///study.db, postgresql://...) or journal file of the study.")
@click.option("--trials", type=click.IntRange(1), help="Trials in all, over all workers.")
@click.option("-o", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, e.g. -o loss.pisc=0")
def command(
    config_file: Path, output: Path | None, storage: str | None, trials: int | None, overrides: tuple[str, ...]
) -> None:
    """Search the ranges of the section tune of CONFIG_FILE for the smallest validation error.

    The same command joins a search that runs, or goes on with one that was interrupted: start it as often as there
    are processors or machines, with one --storage that all can reach. The test frames are looked at once, at the end.
    """
    from importlib.util import find_spec

    from piwsl.cli.train import data_name
    from piwsl.errors import ConfigError, MissingDependencyError

    if find_spec("optuna") is None:
        raise MissingDependencyError("optuna", "the search for settings", "tune")
    from piwsl.cli.tune_display import TuneDisplay
    from piwsl.training.distributed.processes import launched_processes
    from piwsl.training.tuning.settings import load_settings
    from piwsl.training.tuning.tune import tune

    if launched_processes().count > 1:
        raise ConfigError(
            "piwsl tune trains each trial in one process: instead of torchrun or srun with several tasks, start it "
            "several times on one --storage"
        )
    config, settings = load_settings(config_file, overrides)
    if settings is None:
        raise ConfigError(
            f"{config_file}: holds no section tune: add for instance "
            "'tune: {trials: 30, ranges: {loss.pitc: {low: 0.01, high: 100, log: true}}}'"
        )
    chosen = {"storage": storage, "trials": trials}
    settings = settings.model_copy(update={key: value for key, value in chosen.items() if value is not None})
    output = output or Path("runs") / f"tune-{data_name(config.data)}"
    display = TuneDisplay(settings)
    try:
        result = tune(config, settings, output, on_data=display.data, on_trial=display.trial)
    except KeyboardInterrupt:
        click.echo("interrupted: the same command goes on", err=True)
        raise click.Abort from None
    display.result(result, output)
