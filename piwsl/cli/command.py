"""What the commands of `piwsl` share: lazy import, suggestions, errors that name options, and ``KEY=VALUE`` options."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

import click

from piwsl.errors import ConfigError, PiwslError

_F = TypeVar("_F", bound=Callable[..., Any])
# Options of other commands that a message may mention.
_FORMS = ("target", "format", "dtype", "copies")
_ARGUMENT = re.compile(r"(?<![\w.'-])([a-z][a-z_]*)=('[^']*'|True\b|[A-Z][A-Z_.]*\b|\d[\w.]*)")
# Spellings before version 0.1.
RENAMED = {"--minimise": "--minimize", "--no-minimise": "--no-minimize", "--neighbours": "--neighbors"}


class Command(click.Command):
    """Command that replaces Python arguments in error messages by command-line options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; the error for a renamed option gives the new name."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in RENAMED:
                raise click.UsageError(f"{error.option_name} is now {RENAMED[error.option_name]}", ctx) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command.

        Raises:
            PiwslError: The command failed. The message names options instead of Python arguments.
        """
        try:
            return super().invoke(ctx)
        except PiwslError as error:
            error.args = (with_flags(str(error), self),)
            raise


def with_flags(message: str, command: click.Command) -> str:
    """Replace Python arguments such as ``name=value`` in a message by the options and arguments of a command."""
    flags = {option.name: option.opts[-1] for option in command.params if isinstance(option, click.Option)}
    flags = {**{name: f"--{name}" for name in _FORMS}, **flags}
    places = {one.name: one.human_readable_name for one in command.params if isinstance(one, click.Argument)}

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name in places and value.isupper():
            return places[name]
        flag = flags.get(name) or next((text for text in flags.values() if text == f"--{name.replace('_', '-')}"), None)
        if flag is None:
            return match[0]
        if value == "True":
            return flag
        return f"{flag} {value if ' ' in value else value.strip(chr(39))}"

    return _ARGUMENT.sub(option, message)


def overrides_option(example: str) -> Callable[[_F], _F]:
    """Return the option ``-o KEY=VALUE`` of a command with a configuration. The argument appears in its help."""
    text = f"Option of the configuration, such as -o {example}."
    return click.option("-o", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help=text)


def key_values(overrides: Sequence[str]) -> dict[str, str]:
    """Return the values of command-line overrides ``KEY=VALUE`` by key.

    Raises:
        ConfigError: An override has no equals sign.
    """
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r}: write section.key=value")
    return {key: value for key, _, value in (override.partition("=") for override in overrides)}


class ReaderEndedError(Exception):
    """The program that reads the output of the command has ended."""


class InterruptedCommandError(Exception):
    """The command was interrupted by a signal."""


@contextmanager
def _hidden_from_click() -> Iterator[None]:
    """Replace exceptions for which click would print a line or choose the exit code."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderEndedError from error
    except KeyboardInterrupt as error:
        raise InterruptedCommandError from error


class LazyGroup(click.Group):
    """Command group that imports a module of `piwsl.cli` when a command is called.

    Each module contains an object ``command``.

    Args:
        modules: One-line help of each command, by name, in the order of the list of commands.
        prefix: Prefix of the module names.
    """

    def __init__(self, *args: object, modules: dict[str, str], prefix: str = "", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on unchanged
        self.modules = modules
        self.prefix = prefix

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line, which prints the help and the version.

        Raises:
            ReaderEndedError: The output cannot be written.
            InterruptedCommandError: A signal arrived.
        """
        with _hidden_from_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command.

        Raises:
            ReaderEndedError: The output cannot be written.
            InterruptedCommandError: A signal arrived.
        """
        with _hidden_from_click():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in order."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command; None if the command does not exist."""
        if cmd_name not in self.modules:
            return None
        command = import_module(f"piwsl.cli.{self.prefix}{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; the error for an unknown command suggests the most similar name."""
        name = args[0]
        near = get_close_matches(name, self.modules, n=1, cutoff=0.5)
        if name not in self.modules and near and not name.startswith("-"):
            ctx.fail(f"no command {name!r}: did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.modules.items()))
