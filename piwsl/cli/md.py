"""`piwsl md`: run molecular dynamics."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource

from piwsl.cli.command import Command, with_flags
from piwsl.md.ensembles import ALIASES, Ensemble
from piwsl.md.protocol import MDProtocol, TemperatureSchedule
from piwsl.runs.process_settings import use_huge_pages

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def protocol_options(function: Decorated) -> Decorated:
    """Add an option for every field of `MDProtocol`; the protocol itself checks the limits."""
    for name, field in reversed(MDProtocol.model_fields.items()):
        flag = f"--{name.replace('_', '-')}"
        default = str(field.default) if isinstance(field.default, TemperatureSchedule) else field.default
        several = get_origin(field.annotation) is tuple
        function = click.option(
            f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag,
            name,
            type=_click_type(get_args(field.annotation)[0] if several else field.annotation),
            multiple=several,
            default=default,
            help=field.description,
        )(function)
    return function


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        short = ALIASES if annotation is Ensemble else ()
        return click.Choice([*get_args(annotation), *short])
    if get_origin(annotation) is UnionType:
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return str if annotation is TemperatureSchedule else annotation


@click.command(name="md", cls=Command, context_settings={"show_default": True})
@click.option("--system", help="Bundled system with structure and model, such as aspirin, or an rMD17 molecule.")
@click.option("--structure", type=click.Path(path_type=Path), help="Start structure, in any format that ASE reads.")
@click.option("--model", type=click.Path(path_type=Path), help="Exported potential, or a trained model.pt.")
@click.option("--output", type=click.Path(path_type=Path), help="Run directory.  [default: runs/md-NAME]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML file with options. Command-line options take precedence."
)
@click.option(
    "--protocol", help="Options of a published study: fu2023 or piwsl2025. All other options take precedence."
)
@click.option("--template", is_flag=True, help="Print a file for --config with all options and exit.")
@click.option("--dry-run", is_flag=True, help="Show the planned run and its estimated duration and exit.")
@click.option(
    "--follow", type=click.Path(path_type=Path), help="Show the progress of the run in a directory until the run ends."
)
@click.option("--restart", is_flag=True, help="Continue the run in --output; --steps is the total.")
@click.option("--force", is_flag=True, help="Replace another run in --output.")
@click.option(
    "--strict", is_flag=True, help="Refuse a structure outside the training data instead of printing a warning."
)
@click.option(
    "--scheduler",
    help="Dask scheduler, such as tcp://10.0.0.1:8786, whose workers run the replicas. A scheduler can run code here.",
)
@click.option(
    "--dask-workers", type=click.IntRange(1), help="Number of Dask workers to start on this machine for the replicas."
)
@protocol_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    template: bool,
    dry_run: bool,
    follow: Path | None,
    restart: bool,
    scheduler: str | None,
    dask_workers: int | None,
    force: bool,
    strict: bool,
    **arguments: Any,
) -> None:
    """Run molecular dynamics with an exported or trained potential.

    The run stops if the structure becomes unphysical (exit code 3). Ctrl-C writes a restart state before the run ends.

    A trained model.pt contains only data. An exported file contains code, which runs with all your permissions.
    """
    if template:
        click.echo(md_template(), nl=False)
        return
    if follow is not None:
        from piwsl.cli.md_follow import follow as watch

        watch(follow)
        return
    if arguments["stop"] == ("help",):
        from piwsl.md.stop.rules import rules_help

        click.echo(rules_help())
        return
    use_huge_pages()
    # A default of the command line must not take precedence over a file or a published protocol.
    given = {name: value for name, value in arguments.items() if _is_given(ctx, name)}
    if dry_run:
        _print_plan(given, restart, strict)
        return
    from piwsl.cli.logs import echoing
    from piwsl.md.progress import reporting_progress
    from piwsl.md.run import run_md

    with echoing("piwsl", _printer(ctx.command)), reporting_progress(True, click.echo) as progress:
        run = run_md(
            restart=restart,
            force=force,
            strict=strict,
            scheduler=scheduler,
            dask_workers=dask_workers,
            progress=progress,
            **given,
        )
    if not run.completed:
        from piwsl.md.run_directory import MD_RUN
        from piwsl.runs.directory import RunDirectory

        if RunDirectory(run.directory, MD_RUN).can_continue:
            click.echo("to continue the run, repeat the command with --restart")
        raise click.Abort  # exit code 130


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT


def _printer(command: click.Command) -> Callable[[logging.LogRecord], None]:
    """Return a function that prints log records below ERROR; errors are also raised as exceptions."""

    def show(record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            click.echo(prefix + with_flags(record.getMessage(), command))

    return show


def _print_plan(given: dict[str, Any], restart: bool, strict: bool) -> None:
    from piwsl.md.dry_run import plan_md

    plan = plan_md(restart=restart, strict=strict, **given)
    for line in [*plan.lines, *(f"warning: {text}" for text in plan.warnings)]:
        click.echo(line)


# Keys of a configuration in addition to the fields of the protocol.
_INPUTS = {
    "system": "Bundled system such as aspirin, or an rMD17 molecule with your own structure and model.",
    "structure": "Start structure, in any format that ASE reads.",
    "model": "Exported potential, or a trained model.pt.",
    "output": "Run directory.",
}


def md_template() -> str:
    """Return the text of a file for `piwsl md --config` with each option, its default and its meaning."""
    import yaml

    lines = ["# piwsl md --config FILE; command-line options take precedence over this file.", ""]
    for name, text in _INPUTS.items():
        lines += [f"# {text}", f"#{name}:", ""]
    defaults = MDProtocol().model_dump()
    for name, field in MDProtocol.model_fields.items():
        choices = f" One of {', '.join(get_args(field.annotation))}." if get_origin(field.annotation) is Literal else ""
        value = yaml.safe_dump({name: list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]})
        lines += [f"# {field.description}{choices}", value]
    return "\n".join(lines).rstrip() + "\n"
