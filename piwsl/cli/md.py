"""`piwsl md`: run molecular dynamics."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from piwsl.cli.md_options import protocol_options
from piwsl.errors import ConfigError, UnphysicalError
from piwsl.memory import use_huge_pages


@click.command(name="md", context_settings={"show_default": True})
@click.option("--system", help="A bundled system, such as aspirin: structure and model.")
@click.option("--structure", type=click.Path(path_type=Path), help="Start structure, any file ASE reads.")
@click.option("--model", type=click.Path(path_type=Path), help="Exported potential, or a trained model.pt.")
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the run.  [default: runs/md-NAME]")
@click.option("--restart", is_flag=True, help="Continue the run in --output; --steps is the total.")
@click.option("--force", is_flag=True, help="Replace another run in --output.")
@protocol_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    system: str | None,
    structure: Path | None,
    model: Path | None,
    output: Path | None,
    restart: bool,
    force: bool,
    **options: Any,
) -> None:
    """Run molecular dynamics with an exported or trained potential.

    The run stops when it is no longer physics (exit code 3). Ctrl-C writes a restart state first.
    """
    use_huge_pages()
    from piwsl.md.protocol import MDProtocol

    if restart and force:
        raise ConfigError("--restart continues a run and --force replaces it: give one of them")
    given = {name: value for name, value in options.items() if _was_given(ctx, name)}
    protocol = MDProtocol.of(**given)  # a bad option is said before anything slow is loaded

    from piwsl.cli.md_inputs import choose_inputs
    from piwsl.cli.md_progress import md_display
    from piwsl.md.run import run_md

    inputs = choose_inputs(system, structure, model, output, restart)
    if restart:
        kept = MDProtocol.load(inputs.output / "config.yaml")
        protocol = MDProtocol.of(**{**kept.model_dump(), **given})
    click.echo(f"{inputs.name}: {protocol.summary()} -> {inputs.output}")
    with md_display() as progress:
        try:
            run = run_md(
                inputs.structure,
                inputs.model,
                protocol,
                inputs.output,
                name=inputs.name,
                restart=restart,
                force=force,
                command=shlex.join(["piwsl", *sys.argv[1:]]),
                progress=progress,
            )
        except UnphysicalError:
            click.echo(f"results: {inputs.output}")
            raise
    click.echo(f"results: {run.directory}")
    if not run.completed:
        click.echo("continue with the same command and --restart")
        raise click.Abort  # exit code 130


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
