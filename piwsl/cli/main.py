"""The `piwsl` command. Commands are imported when they are called, so that --help stays fast."""

import sys

import click

from piwsl._version import __version__
from piwsl.cli.lazy import LazyGroup
from piwsl.errors import PiwslError, UnphysicalError

COMMANDS = {
    "train": "Train a potential on labelled structures.",
    "evaluate": "Errors of a trained potential on labelled structures.",
    "export": "Freeze a trained potential into one TorchScript file.",
    "md": "Run molecular dynamics.",
    "analyze": "Compare a run with a reference.",
    "tune": "Search for good coefficients and settings.",
    "data": "Fetch, inspect, convert and label structures.",
    "doctor": "Say what works on this machine.",
}


@click.group(cls=LazyGroup, modules=COMMANDS)
@click.version_option(__version__, prog_name="piwsl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def piwsl(debug: bool) -> None:
    """Physics-informed weakly supervised potentials, from training to molecular dynamics."""


def run(arguments: list[str] | None = None) -> None:
    """Entry point: 0 done, 2 an error of the user, 3 a run that left physics, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # Without its standalone mode click returns the code of an Exit instead of raising it.
        sys.exit(piwsl.main(arguments, prog_name="piwsl", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("piwsl: interrupted", err=True)
        sys.exit(130)
    except PiwslError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"piwsl: {error}", err=True)
        sys.exit(3 if isinstance(error, UnphysicalError) else 2)
