"""The `piwsl` command."""

import sys
from contextlib import suppress

import click

from piwsl._version import __version__
from piwsl.cli.command import InterruptedCommandError, LazyGroup, ReaderEndedError
from piwsl.cli.streams import discard_output, usable_streams
from piwsl.errors import (
    PiwslError,
    UnphysicalError,
    UnregisteredNetworkError,
    is_out_of_memory,
    printable,
    system_failure,
)
from piwsl.runs.interruption import signals_as_exceptions
from piwsl.runs.process_settings import remove_empty_compiler_cache
from piwsl.runs.progress import to_stderr

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
    """Run a command line and exit with a code.

    The codes are 0 (success), 2 (user error), 3 (unphysical run), 130 (interrupted by Ctrl-C, SIGTERM or SIGHUP) and
    141 (the reader of the output has ended).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with usable_streams():
        sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    if not __debug__:  # the file readers of ASE rely on assertions
        return _failed("ASE needs assertions, but Python runs without them: unset PYTHONOPTIMIZE and omit -O")
    with signals_as_exceptions() as interruption:
        try:
            return _called(arguments)
        except (InterruptedCommandError, click.Abort, KeyboardInterrupt):
            return _interrupted()
        except (Exception, SystemExit):
            # Libraries may replace the exception of a signal, for instance while they are imported.
            if not interruption.requested or "--debug" in arguments:
                raise
            return _interrupted()
        finally:
            remove_empty_compiler_cache()


def _called(arguments: list[str]) -> int:
    """Call the command and return the exit code; user errors are printed in one line.

    Raises:
        PiwslError: The command failed, with ``--debug``. So do OSError and UnicodeEncodeError.
    """
    debug = "--debug" in arguments
    try:
        # Outside standalone mode, click returns the exit code instead of raising Exit.
        return int(piwsl.main(arguments, prog_name="piwsl", standalone_mode=False) or 0)
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return 2
    except (ReaderEndedError, BrokenPipeError):  # such as `piwsl ... | head`
        discard_output()
        return 141
    except UnicodeEncodeError as error:
        if debug:
            raise
        text = printable(ascii(error.object[error.start : error.end]))
        return _failed(f"{text} cannot be encoded in this locale: set LC_ALL=C.UTF-8")
    except (PiwslError, OSError) as error:
        if debug:
            raise
        if isinstance(error, OSError):
            error = system_failure(error)
        hint = " (`piwsl --import MODULE ...`)" if isinstance(error, UnregisteredNetworkError) else ""
        return _failed(f"{printable(str(error))}{hint}", 3 if isinstance(error, UnphysicalError) else 2)
    except (MemoryError, RuntimeError, ImportError) as error:
        if debug or not is_out_of_memory(error):
            raise
        return _failed("out of memory: raise the limit of this process (ulimit -v), or use a machine with more memory")


def _interrupted() -> int:
    if sys.stderr.isatty():  # the terminal has printed ^C
        to_stderr("")
    return _failed("interrupted", 130)


def _failed(text: str, code: int = 2) -> int:
    """Print an error and return the exit code, which does not depend on whether the error can be printed."""
    with suppress(OSError):
        to_stderr(f"piwsl: {text}")
    return code
