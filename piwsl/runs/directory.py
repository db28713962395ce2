"""The directory of a long job: its files, its lock, and checks before it is used."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from filelock import FileLock, Timeout

from piwsl.errors import RunDirectoryError, reason_of
from piwsl.runs.files import unwritable
from piwsl.runs.provenance import log_to_file
from piwsl.runs.scratch import sweep

LOCK_FILE = ".lock"


@dataclass(frozen=True)
class DirectoryKind:
    """Description of the directories of one kind of job.

    Attributes:
        job: Name of the job in messages, with its article, such as ``a training run``.
        marks: File names; a directory that contains any of these files contains such a job.
        own: Patterns of the files and folders that belong to the job; nothing else is ever removed.
        log: Name of the log file; empty if the job writes no log.
        resume: Python argument that continues a job; empty if the same call continues the job.
        states: Patterns of restart files. A job can be continued if any such file exists, or always if empty.
        early: Names of the files that the job writes after the log file and before any of ``marks``.
    """

    job: str
    marks: tuple[str, ...]
    own: tuple[str, ...] = ()
    log: str = ""
    resume: str = ""
    states: tuple[str, ...] = ()
    early: tuple[str, ...] = ()


class RunDirectory:
    """Directory of a job.

    Args:
        path: Path of the directory, which need not exist.
        kind: Kind of the job that uses the directory.
    """

    def __init__(self, path: Path, kind: DirectoryKind) -> None:
        self.path, self.kind = path, kind

    @property
    def holds_job(self) -> bool:
        """Whether the directory contains a job of this kind, finished or not."""
        return any((self.path / name).exists() for name in self.kind.marks)

    @property
    def can_continue(self) -> bool:
        """Whether the directory contains the files that a job needs to be continued."""
        return not self.kind.states or any(any(self.path.glob(pattern)) for pattern in self.kind.states)

    def check_free(self, force: bool = False) -> None:
        """Raise an error if the directory contains anything except hidden files. Nothing is changed.

        A job that ended before it began, for instance because the disk was full, counts as nothing. Call this method
        again while holding the lock, because another process may have used the directory in the meantime.

        Args:
            force: Accept a job of this kind, which will be replaced.

        Raises:
            RunDirectoryError: The path is a file, or the directory contains other files. Without ``force``, also if the
                directory contains a job.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file, not a directory: choose another output=DIRECTORY")
        if not self.path.exists() or self._contains_nothing():
            return
        job = self.kind.job
        if not self.holds_job:
            plain = job.partition(" ")[2]
            message = f"{self.path}: is not empty and holds no {plain}: choose another output=DIRECTORY"
            raise RunDirectoryError(message)
        if not force:
            resume = f"continue it with {self.kind.resume}=True, " if self.kind.resume and self.can_continue else ""
            advice = f"{resume}replace it with force=True, or choose another output=DIRECTORY"
            raise RunDirectoryError(f"{self.path}: already holds {job}: {advice}")

    def _contains_nothing(self) -> bool:
        """Return whether the directory contains only hidden files and those of a job that ended before it began."""
        names = {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")}
        # Without the log, files with these names belong to the user, such as a configuration.
        begun = bool(self.kind.log) and self.kind.log in names
        return not names or (begun and names <= {self.kind.log, *self.kind.early})

    def create(self) -> None:
        """Create the directory if it does not exist, and check that it is writable.

        Raises:
            RunDirectoryError: The directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.kind.log:
                (self.path / self.kind.log).open("a").close()  # keep an existing log, because its job may be running
        except OSError as error:
            raise self._unwritable(error) from None

    def clear(self) -> None:
        """Remove the files and folders of an earlier job; other files are kept.

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

    def check_regular(self) -> None:
        """Check that the directory contains regular files, because opening a pipe would wait for another process.

        Raises:
            RunDirectoryError: An entry is neither a file nor a directory.
        """
        for entry in self.path.rglob("*"):
            if entry.exists() and not entry.is_file() and not entry.is_dir():
                raise RunDirectoryError(f"{entry}: neither a regular file nor a directory: remove it")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Prevent other processes from running the same job within the block; see `locked`.

        Temporary files that a killed process has left behind are removed.
        """
        with locked(self.path):
            self.sweep()
            yield

    def sweep(self) -> None:
        """Remove temporary files of processes that have ended, in the directory and in its folders."""
        sweep(self.path)
        with suppress(OSError):
            for entry in self.path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    sweep(entry)

    def log(self) -> AbstractContextManager[None]:
        """Write the messages of all piwsl loggers to the log file within the block."""
        return log_to_file(logging.getLogger("piwsl"), self.path / self.kind.log)

    def _unwritable(self, error: OSError) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self.path}: cannot be written ({reason_of(error)}): make it writable, or choose another output=DIRECTORY"
        )


@contextmanager
def locked(directory: Path, names: Sequence[str] = (LOCK_FILE,), patience: float = 0.0) -> Iterator[None]:
    """Lock a directory within the block. The locks are released even if the process is killed.

    Args:
        directory: Existing directory.
        names: Names of the lock files.
        patience: Total time to wait for other processes, s.

    Raises:
        RunDirectoryError: Another process holds a lock, or the directory is not writable.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as held:
        for name in names:
            try:
                held.enter_context(FileLock(directory / name).acquire(max(deadline - time.monotonic(), 0.0)))
            except Timeout:
                raise RunDirectoryError(
                    f"{directory}: another process is using this directory: wait for that process to end"
                ) from None
            except NotImplementedError:  # a file system without locks
                continue
            except OSError as error:
                raise unwritable(directory, error) from None
        yield
