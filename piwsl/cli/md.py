"""`piwsl md`: run molecular dynamics."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from piwsl.cli.flags import with_flags
from piwsl.cli.md_options import protocol_options
from piwsl.errors import ConfigError, UnphysicalError
from piwsl.runs.process import use_huge_pages

if TYPE_CHECKING:
    from piwsl.cli.md_inputs import Inputs
    from piwsl.md.protocol import MDProtocol


@click.command(name="md", context_settings={"show_default": True})
@click.option("--system", help="A bundled system such as aspirin: structure and model; or a molecule of rMD17.")
@click.option("--structure", type=click.Path(path_type=Path), help="Start structure, any file ASE reads.")
@click.option("--model", type=click.Path(path_type=Path), help="Exported potential, or a trained model.pt.")
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the run.  [default: runs/md-NAME]")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of options; those given here go before.")
@click.option("--protocol", help="Options of a published study: fu2023, piwsl2025; all others go before.")
@click.option("--template", is_flag=True, help="Print a file for --config with all options, and stop.")
@click.option("--dry-run", is_flag=True, help="Say what would happen and how long it would take, and stop.")
@click.option("--follow", type=click.Path(path_type=Path), help="Watch the run in a directory, and stop when it ends.")
@click.option("--restart", is_flag=True, help="Continue the run in --output; --steps is the total.")
@click.option("--force", is_flag=True, help="Replace another run in --output.")
@click.option("--scheduler", help="Dask scheduler such as tcp://10.0.0.1:8786; its workers move the replicas.")
@click.option("--dask-workers", type=click.IntRange(1), help="Dask workers of this machine that move the replicas.")
@protocol_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: Path | None,
    protocol: str | None,
    template: bool,
    dry_run: bool,
    follow: Path | None,
    restart: bool,
    force: bool,
    scheduler: str | None,
    dask_workers: int | None,
    **options: Any,
) -> None:
    """Run molecular dynamics with an exported or trained potential.

    The run stops when it is no longer physics (exit code 3). Ctrl-C writes a restart state first.
    """
    use_huge_pages()
    if template:
        from piwsl.cli.md_template import template as text

        click.echo(text(), nl=False)
        return
    if follow is not None:
        from piwsl.cli.md_follow import follow as watch

        watch(follow)
        return
    if options["stop"] == ("help",):
        from piwsl.md.stop.specs import rules_help

        click.echo(rules_help())
        return
    if restart and force:
        raise ConfigError("--restart continues a run and --force replaces it: give one of them")
    inputs, resolved = _resolve(_options(ctx, config, protocol, options), restart)
    if dry_run:
        _plan(inputs, resolved)
        return
    from piwsl.cli.md_progress import md_display
    from piwsl.cli.md_spread import replicas_elsewhere
    from piwsl.md.run import run_md

    click.echo(f"{inputs.name}: {resolved.summary()} -> {inputs.output}")
    with (
        replicas_elsewhere(scheduler, dask_workers, inputs.structure, resolved) as distributed,
        md_display() as progress,
    ):
        try:
            run = run_md(
                inputs.structure,
                inputs.model,
                resolved,
                inputs.output,
                name=inputs.name,
                restart=restart,
                force=force,
                command=shlex.join(["piwsl", *sys.argv[1:]]),
                progress=progress,
                distributed=distributed,
            )
        except UnphysicalError:
            click.echo(f"results: {inputs.output}")
            raise
    click.echo(f"results: {run.directory}")
    if not run.completed:
        click.echo("continue with the same command and --restart")
        raise click.Abort  # exit code 130


def _options(ctx: click.Context, config: Path | None, protocol: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """What was said: by a published protocol, by the file, on the command line; the later goes before."""
    from piwsl.md.protocol import preset
    from piwsl.runs.config import read_mapping

    given = {name: value for name, value in options.items() if _was_given(ctx, name)}
    written = read_mapping(config) if config else {}
    return {**(preset(protocol) if protocol else {}), **written, **given}


def _resolve(options: dict[str, Any], restart: bool) -> "tuple[Inputs, MDProtocol]":
    from piwsl.md.protocol import MDProtocol

    names: dict[str, Any] = {
        name: options.pop(name) for name in ("system", "structure", "model", "output") if name in options
    }
    protocol = MDProtocol.of(**options)  # a bad option is said before anything slow is loaded

    from piwsl.cli.md_inputs import Named, choose_inputs

    chosen = choose_inputs(Named.of(names), restart, protocol.replicas is not None)
    if restart:
        kept = MDProtocol.load(chosen.output / "config.yaml")
        protocol = MDProtocol.of(**{**kept.model_dump(), **options})
    return chosen, protocol


def _plan(inputs: "Inputs", protocol: "MDProtocol") -> None:
    from piwsl.md.dry_run import plan_run

    plan = plan_run(inputs.structure, inputs.model, protocol)
    for line in [*plan.lines, f"output      {inputs.output}"]:
        click.echo(line)
    for line in plan.warnings:
        click.echo(f"warning: {with_flags(line)}")


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
