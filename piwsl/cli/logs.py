"""Lines of the log of a job on the screen."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import click

from piwsl.cli.command import with_flags
from piwsl.errors import printable
from piwsl.runs.provenance import listening


@contextmanager
def echoing(name: str, show: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Pass every record of a logger, from the level INFO on, to a function that prints it."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(logging.makeLogRecord({**record.__dict__, "msg": printable(record.getMessage()), "args": ()}))

    with listening(logging.getLogger(name), Handler()):
        yield


def printing_warnings(command: click.Command) -> AbstractContextManager[None]:
    """Print warnings of piwsl to the standard error, with the options of a command for arguments of Python."""

    def show(record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            click.echo(f"warning: {with_flags(record.getMessage(), command)}", err=True)

    return echoing("piwsl", show)
