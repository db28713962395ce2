"""What a run directory says about how it was made: versions and a log."""

import logging
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Versions of Python and of packages; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@contextmanager
def listening(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Hand the lines of a logger to a handler, and close it afterwards."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log that is given up when it cannot be written, instead of a traceback for each line."""

    def __init__(self, logger: logging.Logger, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._logger = logger

    def handleError(self, record: logging.LogRecord) -> None:
        self._logger.removeHandler(self)
        reason = getattr(sys.exc_info()[1], "strerror", None)
        self._logger.warning(f"{self.baseFilename}: cannot be written ({reason}): what follows is not in it")

    def close(self) -> None:
        with suppress(OSError):  # it was said
            super().close()


@contextmanager
def log_to_file(logger: logging.Logger, path: Path) -> Iterator[None]:
    """Add the lines of a logger to a file, with their times. A full disk ends that, and the logger says so."""
    handler = _LogFile(logger, path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with listening(logger, handler):
        yield
