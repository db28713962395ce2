"""One process at a time writes to a run directory."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from piwsl.errors import RunDirectoryError
from piwsl.md.output.frame import writing

_PAUSE = 0.2  # s between attempts


@contextmanager
def locked(directory: Path, replicas: Iterable[int] = (), patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a run, or those of some of its replicas; they go with the process, however that ends.

    Args:
        directory: of the run; it exists.
        replicas: numbers; none: the run itself.
        patience: s to wait for another process.

    Raises:
        RunDirectoryError: another process holds one.
    """
    names = [f".lock-{number:03d}" for number in replicas] or [".lock"]
    deadline = time.monotonic() + patience
    with ExitStack() as held:
        for name in names:
            held.enter_context(_lock(directory, name, deadline))
        yield


@contextmanager
def _lock(directory: Path, name: str, deadline: float) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with writing(directory):
        file = (directory / name).open("w")
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunDirectoryError(f"{directory}: another process is running this: wait for its end") from None
                time.sleep(_PAUSE)
            except OSError:  # a file system without locks
                break
        yield
