"""A click group whose commands are imported when they are called, so that --help stays fast."""

from importlib import import_module

import click


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
