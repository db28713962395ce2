"""One process at a time works in a directory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from piwsl.errors import RunDirectoryError

LOCK_FILE = ".lock"


@contextmanager
def locked(directory: Path, names: Sequence[str] = (LOCK_FILE,), patience: float = 0.0) -> Iterator[None]:
    """Hold files of a directory as locks; they go with the process, however that ends.

    Args:
        directory: it exists.
        names: of the files.
        patience: s to wait for another process, over all of them.

    Raises:
        RunDirectoryError: another process holds one, or the directory cannot be written.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as held:
        for name in names:
            try:
                held.enter_context(FileLock(directory / name).acquire(max(deadline - time.monotonic(), 0.0)))
            except Timeout:
                raise RunDirectoryError(f"{directory}: another process works here: wait for its end") from None
            except NotImplementedError:  # a file system without locks
                continue
            except OSError as error:
                raise RunDirectoryError(f"{directory}: cannot be written ({error.strerror})") from None
        yield
