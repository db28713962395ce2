"""Records of how a job was run: versions, command line, log."""

import logging
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from piwsl.errors import printable


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the versions of Python and of packages; the version of a missing package is None."""
    installed: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = None
    return installed


def command_line() -> str:
    """Return the command line of this process; empty in an interactive session or a notebook."""
    if hasattr(sys, "ps1"):
        return ""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


@contextmanager
def listening(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Attach a handler to a logger within the block, and close the handler afterwards."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


class _Printable(logging.Formatter):
    """Formatter that escapes control characters, which names from files may contain."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _LogFile(logging.FileHandler):
    """Log file that stops logging with one warning if the file cannot be written."""

    def __init__(self, logger: logging.Logger, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._logger = logger

    def handleError(self, record: logging.LogRecord) -> None:
        self._logger.removeHandler(self)
        reason = getattr(sys.exc_info()[1], "strerror", None)
        self._logger.warning(f"{self.baseFilename}: cannot be written ({reason}): this log file ends here")

    def close(self) -> None:
        with suppress(OSError):  # a warning has already been logged
            super().close()


@contextmanager
def log_to_file(logger: logging.Logger, path: Path) -> Iterator[None]:
    """Append the messages of a logger to a file, with times; after a write error, warn and stop writing."""
    handler = _LogFile(logger, path)
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    with listening(logger, handler):
        yield
