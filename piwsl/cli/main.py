"""The `piwsl` command."""

import os
import sys
from contextlib import suppress

import click

from piwsl._version import __version__
from piwsl.cli.command import LazyGroup
from piwsl.errors import PiwslError, UnphysicalError, UnregisteredNetworkError, printable, system_failure
from piwsl.runs.process_settings import remove_empty_compiler_cache

COMMANDS = {
    "learn": "Learn a fast, stable potential from few labels.",
    "train": "Train a potential on labeled structures.",
    "evaluate": "Measure the errors of a trained potential.",
    "export": "Export a trained potential to one file.",
    "md": "Run molecular dynamics.",
    "analyze": "Compare runs with a reference.",
    "tune": "Search for good coefficients and settings.",
    "data": "Fetch, inspect, convert and label structures.",
    "import": "Turn a foundation model into a trained potential.",
    "cache": "List or clear the compiled files kept for later runs.",
    "doctor": "Check what works on this machine.",
}


@click.group(cls=LazyGroup, modules=COMMANDS)
@click.version_option(__version__, prog_name="piwsl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Python module to import first, such as a module that registers a network. The module is executed.",
)
def piwsl(debug: bool, modules: tuple[str, ...]) -> None:
    """Physics-informed weakly supervised potentials, from training to molecular dynamics."""
    if modules:
        from piwsl.models import import_modules

        import_modules(modules)


def run(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with code 0 (success), 2 (user error), 3 (unphysical run) or 130 (interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not __debug__:  # the file readers of ASE rely on assertions
        click.echo(
            "piwsl: ASE needs assertions, but Python runs without them: unset PYTHONOPTIMIZE and omit -O", err=True
        )
        sys.exit(2)
    try:
        # Outside standalone mode, click returns the exit code instead of raising Exit.
        sys.exit(piwsl.main(arguments, prog_name="piwsl", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # such as `piwsl ... | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # avoids an error when the interpreter flushes stdout at exit
        sys.exit(141)
    except UnicodeEncodeError as error:
        if "--debug" in arguments:
            raise
        text = printable(ascii(error.object[error.start : error.end]))
        _say(f"{text} cannot be encoded in this locale: set LC_ALL=C.UTF-8")
        sys.exit(2)
    except (PiwslError, OSError) as error:
        if "--debug" in arguments:
            raise
        if isinstance(error, OSError):
            error = system_failure(error)
        hint = " (`piwsl --import MODULE ...`)" if isinstance(error, UnregisteredNetworkError) else ""
        _say(f"{printable(str(error))}{hint}")
        sys.exit(3 if isinstance(error, UnphysicalError) else 2)
    finally:
        remove_empty_compiler_cache()


def _say(text: str) -> None:
    """Print an error, unless the disk to which stderr is redirected is full: the exit code stays the same."""
    with suppress(OSError):
        click.echo(f"piwsl: {text}", err=True)
