"""`piwsl train`: train a potential."""

from pathlib import Path
from typing import Any

import click


@click.command(name="train")
@click.argument("config_file", type=click.Path(path_type=Path), required=False)
@click.option("--system", help="A bundled system, such as aspirin: its labelled frames.")
@click.option("--data", "data_file", type=click.Path(path_type=Path), help="Labelled frames: npz, extended XYZ, ...")
@click.option("--units", help="Units of the data file, such as 'kcal/mol, angstrom', if it states none.")
@click.option("--output", type=click.Path(path_type=Path), help="Run directory.  [default: runs/train-NAME]")
@click.option("-o", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, e.g. -o loss.pitc=0.5")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the run directory.")
@click.option("--force", is_flag=True, help="Start anew although the run directory holds a run.")
@click.option("--template", is_flag=True, help="Print a commented configuration of all defaults and stop.")
def command(
    config_file: Path | None,
    system: str | None,
    data_file: Path | None,
    units: str | None,
    output: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    force: bool,
    template: bool,
) -> None:
    """Train a potential on labelled structures with supervised and weakly supervised losses.

    \b
    piwsl train --system aspirin
    piwsl train --data rmd17_aspirin.npz --units kcal/mol -o data.train=950
    piwsl train config.yaml -o loss.pitc=0.5
    """
    from piwsl.training import config as configuration

    if template:
        click.echo(configuration.template(), nl=False)
        return
    options: dict[str, Any] = {"system": system, "file": data_file and str(data_file), "units": units}
    named = [f"data.{key}={value}" for key, value in options.items() if value is not None]
    if resume and output is not None and not (config_file or named):
        config_file = output / "config.yaml"
    config = configuration.load_config(config_file, [*named, *overrides])
    name = config.data.system or (Path(config.data.file).stem.split(".")[0] if config.data.file else "unnamed")
    _run(config, output or Path("runs") / f"train-{name}", resume, force)


def _run(config: Any, output: Path, resume: bool, force: bool) -> None:
    from piwsl.cli.train_progress import training_display
    from piwsl.training.run import train

    try:
        with training_display() as display:
            result = train(config, output, resume, force, on_data=display.data, progress=display.step)
    except KeyboardInterrupt:
        click.echo(f"interrupted: `piwsl train --resume --output {output}` goes on from the last checkpoint", err=True)
        raise click.Abort from None
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    for title, errors in (("validation", result.validation), ("test", result.test)):
        if errors is not None:
            for line in errors.lines():
                click.echo(f"{title:<11}{line}")
    click.echo(f"model      {result.model}  ({result.seconds / 60:.1f} min)")
