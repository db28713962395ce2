"""The directory of a long job: who may use it, what belongs to it, one process at a time."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from filelock import FileLock, Timeout

from piwsl.errors import RunDirectoryError, reason_of
from piwsl.runs.provenance import log_to_file

LOCK_FILE = ".lock"


@dataclass(frozen=True)
class DirectoryKind:
    """The directories of one kind of job.

    Attributes:
        job: Name of the job in messages, with its article, such as ``a training run``.
        marks: File names; any of them shows that a directory holds such a job.
        own: Patterns of the files and folders that belong to the job; nothing else is ever removed.
        log: Name of the log; empty: the job writes none.
        resume: Python argument that continues a job; empty: the same call does.
        states: Patterns of files of which a job needs one to be continued; empty: it can always be continued.
    """

    job: str
    marks: tuple[str, ...]
    own: tuple[str, ...] = ()
    log: str = ""
    resume: str = ""
    states: tuple[str, ...] = ()


class RunDirectory:
    """One directory of a job.

    Args:
        path: The directory; it need not exist.
        kind: Kind of job that uses it.
    """

    def __init__(self, path: Path, kind: DirectoryKind) -> None:
        self.path, self.kind = path, kind

    @property
    def holds_job(self) -> bool:
        """Whether the directory holds a job of this kind, finished or not."""
        return any((self.path / name).exists() for name in self.kind.marks)

    @property
    def can_continue(self) -> bool:
        """Whether it holds what a job needs to be continued."""
        return not self.kind.states or any(any(self.path.glob(pattern)) for pattern in self.kind.states)

    def check_free(self, force: bool = False) -> None:
        """Raise an error if the directory holds anything but hidden files; nothing is changed.

        Args:
            force: Accept another job of this kind, which is to be replaced.

        Raises:
            RunDirectoryError: The directory holds something else, or a job without ``force``, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file, not a directory: choose another output=DIRECTORY")
        if not self.path.exists() or all(entry.name.startswith(".") for entry in self.path.iterdir()):
            return
        job = self.kind.job
        if not self.holds_job:
            plain = job.partition(" ")[2]
            message = f"{self.path}: is not empty and holds no {plain}: choose another output=DIRECTORY"
            raise RunDirectoryError(message)
        if not force:
            resume = f"continue it with {self.kind.resume}=True, " if self.kind.resume and self.can_continue else ""
            advice = f"{resume}replace it with force=True, or choose another output=DIRECTORY"
            raise RunDirectoryError(f"{self.path}: holds {job} already: {advice}")

    def create(self) -> None:
        """Create the directory if it does not exist, and check that it can be written.

        Raises:
            RunDirectoryError: The directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.kind.log:
                (self.path / self.kind.log).open("a").close()  # an existing log is not touched: its job may run
        except OSError as error:
            raise self._unwritable(error) from None

    def clear(self) -> None:
        """Remove the files and folders of an earlier job, and nothing else.

        Raises:
            RunDirectoryError: A file or folder cannot be removed.
        """
        try:
            for pattern in self.kind.own:
                for entry in self.path.glob(pattern):
                    if entry.is_dir() and not entry.is_symlink():
                        rmtree(entry)
                    else:
                        entry.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def lock(self) -> AbstractContextManager[None]:
        """Prevent other processes from running the same job within the block; see `locked`."""
        return locked(self.path)

    def log(self) -> AbstractContextManager[None]:
        """Write the lines of all loggers of piwsl to the log within the block."""
        return log_to_file(logging.getLogger("piwsl"), self.path / self.kind.log)

    def _unwritable(self, error: OSError) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self.path}: cannot be written ({reason_of(error)}): choose another output=DIRECTORY"
        )


@contextmanager
def locked(directory: Path, names: Sequence[str] = (LOCK_FILE,), patience: float = 0.0) -> Iterator[None]:
    """Lock files of a directory within the block; the locks are released however the process ends.

    Args:
        directory: An existing directory.
        names: Names of the lock files.
        patience: Total time to wait for other processes, s.

    Raises:
        RunDirectoryError: Another process holds a lock, or the directory cannot be written.
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
                raise RunDirectoryError(f"{directory}: cannot be written ({reason_of(error)})") from None
        yield
