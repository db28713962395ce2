"""The `piwsl` command. Commands are imported when they are called, so that --help stays fast."""

import sys
from importlib import import_module

import click

from piwsl._version import __version__
from piwsl.cli.flags import with_flags
from piwsl.errors import PiwslError, UnphysicalError


class LazyGroup(click.Group):
    """A group whose commands are modules of `piwsl.cli`, each with a `command` object.

    Args:
        modules: one line of help of each command, by its name; in the order of a working day.
        prefix: what stands before the name of a command in the name of its module.
    """

    def __init__(self, *args: object, modules: dict[str, str], prefix: str = "", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they come
        self.modules = modules
        self.prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in order."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in self.modules:
            return None
        command = import_module(f"piwsl.cli.{self.prefix}{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.modules.items()))


COMMANDS = {
    "train": "Train a potential on labeled structures.",
    "evaluate": "Errors of a trained potential on labeled structures.",
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
        click.echo(f"piwsl: {with_flags(str(error))}", err=True)
        sys.exit(3 if isinstance(error, UnphysicalError) else 2)
