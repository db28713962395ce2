"""Printing of log messages."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import click

from piwsl.cli.command import with_flags
from piwsl.errors import printable
from piwsl.runs.progress import to_stderr
from piwsl.runs.provenance import listening


@contextmanager
def echoing(name: str, show: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Pass each record of a logger with level INFO or above to a function that prints the record."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(logging.makeLogRecord({**record.__dict__, "msg": printable(record.getMessage()), "args": ()}))

    with listening(logging.getLogger(name), Handler()):
        yield


def printing_warnings(command: click.Command) -> AbstractContextManager[None]:
    """Print warnings of piwsl to the standard error, with options of a command in place of Python arguments."""

    def show(record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            to_stderr(f"warning: {with_flags(record.getMessage(), command)}")

    return echoing("piwsl", show)
