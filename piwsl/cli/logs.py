"""Lines of the log of a job on the screen."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from piwsl.errors import printable
from piwsl.runs.provenance import listening


@contextmanager
def echoing(name: str, show: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Hand every record of a logger, from the level INFO on, to a function that prints it."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(logging.makeLogRecord({**record.__dict__, "msg": printable(record.getMessage()), "args": ()}))

    with listening(logging.getLogger(name), Handler()):
        yield
