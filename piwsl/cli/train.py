"""`piwsl train`: train a potential, or an ensemble of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from piwsl.data.read import source_name

if TYPE_CHECKING:
    from piwsl.training.config import DataConfig, TrainingConfig


@click.command(name="train")
@click.argument("config_file", type=click.Path(path_type=Path), required=False)
@click.option("--system", help="A bundled system, such as aspirin: its labeled frames.")
@click.option("--data", "data_file", help="Labeled frames: a file, a directory, a pattern, or a named data set.")
@click.option("--units", help="Units of the data, such as 'kcal/mol, angstrom', if they state none.")
@click.option("--init-from", type=click.Path(path_type=Path), help="Trained file (model.pt) to fine-tune.")
@click.option("--seeds", help="Train an ensemble: one model for each seed, such as 1,2,3.")
@click.option("--output", type=click.Path(path_type=Path), help="Run directory.  [default: runs/train-NAME]")
@click.option("-o", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, e.g. -o loss.pitc=0.5")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the run directory.")
@click.option("--force", is_flag=True, help="Start anew although the run directory holds a run.")
@click.option("--template", is_flag=True, help="Print a commented configuration of all defaults and stop.")
def command(
    config_file: Path | None,
    system: str | None,
    data_file: str | None,
    units: str | None,
    init_from: Path | None,
    seeds: str | None,
    output: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    force: bool,
    template: bool,
) -> None:
    """Train a potential on labeled structures with supervised and weakly supervised losses.

    \b
    piwsl train --system aspirin
    piwsl train --data rmd17_aspirin.npz --units kcal/mol -o data.train=950
    piwsl train config.yaml -o loss.pitc=0.5 --seeds 1,2,3
    piwsl train --data ccsd.npz --units kcal/mol --init-from runs/train-aspirin/model.pt
    """
    from piwsl.training import config as configuration
    from piwsl.training.distributed.processes import launched_processes
    from piwsl.training.tuning.settings import load_settings

    if template:
        click.echo(configuration.template(), nl=False)
        return
    options: dict[str, Any] = {
        "data.system": system,
        "data.file": data_file,
        "data.units": units,
        "start.init_from": init_from,
    }
    named = [f"{key}={value}" for key, value in options.items() if value is not None]
    if resume and output is not None and not (config_file or named):
        config_file = output / "config.yaml"
    if config_file is None:
        config = configuration.load_config(None, [*named, *overrides])
    else:
        config, tune = load_settings(config_file, [*named, *overrides])
        if tune is not None and launched_processes().rank == 0:
            click.echo(f"note: {config_file}: the section tune is for `piwsl tune`", err=True)
    output = output or Path("runs") / f"train-{data_name(config.data)}"
    members = _seeds(seeds, output, resume)
    if members is None:
        _run(config, output, resume, force)
    else:
        _run_ensemble(config, output, members, resume, force)


def data_name(data: "DataConfig") -> str:
    """A word for the data of a configuration, for the name of a directory."""
    return data.system or source_name(data.file or "")


def _seeds(text: str | None, output: Path, resume: bool) -> list[int] | None:
    """Seeds of an ensemble; those of the directory where it is resumed without naming them."""
    from piwsl.errors import ConfigError
    from piwsl.training.ensemble import ensemble_seeds

    if text is None:
        return ensemble_seeds(output) if resume else None
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: write whole numbers with commas, such as 1,2,3") from None


def _run(config: "TrainingConfig", output: Path, resume: bool, force: bool) -> None:
    from piwsl.cli.train_progress import training_display
    from piwsl.training.distributed.processes import launched_processes
    from piwsl.training.run import train

    try:
        with training_display() as display:
            result = train(config, output, resume, force, on_data=display.data, progress=display.step)
    except KeyboardInterrupt:
        _interrupted(output)
    if launched_processes().rank > 0:
        return
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    for title, errors in (("validation", result.validation), ("test", result.test)):
        if errors is not None:
            for line in errors.lines():
                click.echo(f"{title:<11}{line}")
    click.echo(f"model      {result.model}  ({result.seconds / 60:.1f} min)")


def _run_ensemble(config: "TrainingConfig", output: Path, seeds: list[int], resume: bool, force: bool) -> None:
    from piwsl.cli.ensemble_table import ensemble_lines
    from piwsl.cli.train_progress import training_display
    from piwsl.training.distributed.processes import launched_processes
    from piwsl.training.ensemble import train_ensemble

    try:
        with training_display() as display:
            result = train_ensemble(
                config,
                output,
                seeds,
                resume,
                force,
                on_data=display.data,
                on_member=display.member,
                progress=display.step,
            )
    except KeyboardInterrupt:
        _interrupted(output)
    if launched_processes().rank > 0:
        return
    for member in result.members:
        for warning in member.warnings:
            click.echo(f"warning: seed {member.seed}: {warning}", err=True)
    for line in ensemble_lines(result):
        click.echo(line)


def _interrupted(output: Path) -> None:
    click.echo(f"interrupted: `piwsl train --resume --output {output}` goes on from the last checkpoint", err=True)
    raise click.Abort from None
