"""`piwsl train`: train a potential or an ensemble of potentials."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from piwsl.cli.command import Command, key_values, overrides_option, with_flags
from piwsl.runs.progress import to_stderr

if TYPE_CHECKING:
    from piwsl.training.ensemble import EnsembleResult
    from piwsl.training.frames import TrainingFrames
    from piwsl.training.run import TrainingResult


@click.command(name="train", cls=Command)
@click.argument("config_file", type=click.Path(path_type=Path), required=False)
@click.option("--system", help="Bundled system whose labeled frames are used, such as aspirin.")
@click.option("--data", "data_file", help="Labeled frames: a file, a directory, a pattern, or a named data set.")
@click.option("--units", help="Units of the data, such as 'kcal/mol, angstrom', if the file does not contain them.")
@click.option("--init-from", type=click.Path(path_type=Path), help="Trained file (model.pt) to fine-tune.")
@click.option("--seeds", help="Train an ensemble with one model per seed, such as 1,2,3.")
@click.option(
    "--workers",
    default=1,
    type=click.IntRange(1),
    help="Members of an ensemble to train at a time, with one thread each.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Run directory.  [default: runs/train-NAME]")
@overrides_option("loss.pitc=0.5")
@click.option("--resume", is_flag=True, help="Resume from the newest checkpoint in the run directory.")
@click.option(
    "--finish",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Write model.pt and the summary of an interrupted run from its best validation step and exit.",
)
@click.option("--force", is_flag=True, help="Replace an existing run in the run directory.")
@click.option("--dry-run", is_flag=True, help="Show what would be trained, time and memory, and exit.")
@click.option("--template", is_flag=True, help="Print a commented configuration with all defaults and exit.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    system: str | None,
    data_file: str | None,
    units: str | None,
    init_from: Path | None,
    seeds: str | None,
    workers: int,
    output: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    finish: Path | None,
    force: bool,
    dry_run: bool,
    template: bool,
) -> None:
    """Train a potential on labeled structures with supervised and weakly supervised losses.

    \b
    piwsl train --system aspirin
    piwsl train --data rmd17_aspirin.npz --units kcal/mol -o data.train=950
    piwsl train config.yaml -o loss.pitc=0.5 --seeds 1,2,3
    piwsl train --data ccsd.npz --units kcal/mol --init-from runs/train-aspirin/model.pt
    piwsl train config.yaml --dry-run
    """
    from piwsl.cli.logs import echoing
    from piwsl.errors import ConfigError
    from piwsl.training import config
    from piwsl.training.ensemble import ensemble_seeds, train_ensemble
    from piwsl.training.inputs import reporting_steps
    from piwsl.training.run import finish_training, train

    if template:
        click.echo(config.template(), nl=False)
        return
    if finish is not None:
        _print_result(finish_training(finish))
        return
    arguments: dict[str, Any] = {
        "config": config_file,
        "system": system,
        "units": units,
        "init_from": init_from,
        "output": output,
        "resume": resume,
        "force": force,
        "options": key_values(overrides),
    }
    members = _seeds(seeds)
    if workers > 1 and members is None and not resume:
        raise ConfigError("--workers trains members of an ensemble at a time: give --seeds, or omit this option")
    if dry_run:
        _print_plan(data_file, members, arguments)
        return
    if members is None and resume and output is not None:
        members = ensemble_seeds(output)
    with echoing("piwsl.training", _printer(ctx.command)), reporting_steps(True, click.echo) as progress:
        if members is None:
            _print_result(train(data_file, progress=progress, on_data=print_data, **arguments))
        else:
            ensemble = train_ensemble(
                data_file,
                seeds=members,
                progress=progress,
                on_data=print_data,
                on_member=_print_member,
                workers=workers,
                **arguments,
            )
            _print_ensemble(ensemble)


def _seeds(text: str | None) -> list[int] | None:
    from piwsl.errors import ConfigError, shortened

    if text is None:
        return None
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--seeds {shortened(text, 60)}: write whole numbers separated by commas, such as 1,2,3"
        ) from None


def _print_plan(data: str | None, seeds: Sequence[int] | None, arguments: dict[str, Any]) -> None:
    from piwsl.errors import ConfigError
    from piwsl.training.preflight import plan_training

    if arguments.pop("resume"):
        raise ConfigError("a dry run describes a new run: omit --resume")
    plan = plan_training(data, seeds=seeds, **arguments)
    for line in plan.lines:
        click.echo(line)
    for warning in plan.warnings:
        to_stderr(f"warning: {warning}")


def is_silent() -> bool:
    """Return whether this process prints nothing; in distributed training, only rank 0 prints."""
    from piwsl.training.distributed.processes import launched_processes

    return launched_processes().rank > 0


def print_data(frames: "TrainingFrames") -> None:
    """Print the data report and the split."""
    for line in frames.lines():
        click.echo(line, err=line.startswith("warning:"))


def _printer(command: click.Command) -> Any:
    """Return a function that prints the first log records of a run and the notes about resuming."""
    silent = is_silent()

    def show(record: logging.LogRecord) -> None:
        text = record.getMessage()
        if silent:
            return
        if record.name == "piwsl.training.start":
            click.echo(f"start: {text}")
        elif record.name in ("piwsl.training.inputs", "piwsl.training.distributed.processes"):
            prefix = "note: " if record.levelno == logging.INFO else ""
            to_stderr(f"{prefix}{with_flags(text, command)}")
        elif text.startswith(("computed on:", "replay:", "resumed:", "walls:")):
            click.echo(text)

    return show


def _print_member(seed: int, directory: Path) -> None:
    click.echo(f"member             seed {seed}, in {directory}")


def _print_result(result: "TrainingResult") -> None:
    if is_silent():
        return
    for warning in result.warnings:
        to_stderr(f"warning: {warning}")
    for title, errors in (("validation", result.validation), ("test", result.test)):
        for line in errors.lines() if errors is not None else ():
            click.echo(f"{title:<11}{line}")
    click.echo(f"model      {result.model}  ({result.seconds / 60:.1f} min)")


def _print_ensemble(result: "EnsembleResult") -> None:
    if is_silent():
        return
    for member in result.members:
        for warning in member.warnings:
            to_stderr(f"warning: seed {member.seed}: {warning}")
    titles, rows = result.table()
    click.echo(f"{result.judged_on + ' errors':<18}  {'  '.join(titles)}")
    for name, cells in rows:
        aligned = (cell.rjust(len(title)) for cell, title in zip(cells, titles, strict=True))
        click.echo(f"{name:<18}  {'  '.join(aligned)}")
    for member in result.members:
        click.echo(f"model      {member.model}")
    click.echo(f"ensemble   {result.file}")
