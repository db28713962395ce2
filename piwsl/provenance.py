"""What a run directory says about how it was made: versions and a log."""

import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def log_to_file(logger: logging.Logger, path: Path) -> Iterator[None]:
    """Add the lines of a logger to a file, with their times."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with listening(logger, handler):
        yield
