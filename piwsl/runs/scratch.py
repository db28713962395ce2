"""Temporary directories, which a later run removes if a killed process has left them behind.

Each directory contains a file that its process keeps locked, on any machine. A directory with a free lock is stale.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from filelock import FileLock, Timeout

from piwsl.errors import RunDirectoryError, reason_of
from piwsl.runs.interruption import uninterrupted

LOCK = "lock"
_ATTEMPTS = 20  # attempts to create a directory that another process may remove before it is locked
_UNLOCKED = 3600.0  # s after which a directory that was never locked counts as stale
_RANDOM = r"[a-z0-9_]{8}"  # random part of names from tempfile
ANY_TEMPORARY = re.compile(rf"\..+\.{_RANDOM}\.tmp")


@contextmanager
def temporary_directory(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield a new private directory and remove the directory at the end of the block.

    Stale directories with the same prefix and suffix are removed first.

    Raises:
        OSError: The directory cannot be created.
    """
    sweep(parent, re.compile(rf"{re.escape(prefix)}{_RANDOM}{re.escape(suffix)}"))
    with ExitStack() as stack:
        with uninterrupted():
            folder, lock = _locked(parent, prefix, suffix)
            stack.callback(_remove, folder, lock)
        yield folder


def _remove(folder: Path, lock: FileLock | None) -> None:
    with uninterrupted():
        rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.release()


@contextmanager
def scratch_directory(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a private directory for temporary files in the folder ``TMPDIR``.

    Args:
        purpose: Word that becomes part of the name of the directory.
        parent: Folder to use instead of ``TMPDIR``.

    Raises:
        RunDirectoryError: The directory cannot be created.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(
                temporary_directory(parent or Path(tempfile.gettempdir()), f"piwsl-{purpose}-")
            )
        except OSError as error:
            where = error.filename or os.environ.get("TMPDIR", "TMPDIR")
            raise RunDirectoryError(
                f"{where}: temporary files cannot be written ({reason_of(error)}): make room, or set TMPDIR"
            ) from None
        yield folder


def folder_without_spaces() -> Path | None:
    """Return a folder for temporary files whose path needs no quoting in a shell; None if there is none."""
    for folder in (tempfile.gettempdir(), "/var/tmp", "/tmp", os.getcwd()):  # callers create private directories inside
        if not re.search(r"[^\w./\\:+,@%=~-]", folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    return None


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Make Python and its child processes use a folder for temporary files within the block."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


def _locked(parent: Path, prefix: str, suffix: str) -> tuple[Path, FileLock | None]:
    """Create and lock a directory; the lock is None if the file system does not support locks."""
    for _ in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(0)
        except NotImplementedError:
            return folder, None
        except (Timeout, FileNotFoundError):  # another process is removing this directory
            continue
        except OSError:
            rmtree(folder, ignore_errors=True)
            raise
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()
    raise FileNotFoundError(2, "temporary directories are removed by another process", str(parent))


def sweep(parent: Path, pattern: re.Pattern[str] = ANY_TEMPORARY) -> None:
    """Remove stale directories of this user with matching names; other directories are kept."""
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        with suppress(OSError, NotImplementedError, Timeout):
            _remove_stale(parent / name)


def _remove_stale(folder: Path) -> None:
    status = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return
    if not (folder / LOCK).exists():
        if not any(folder.iterdir()) and time.time() - status.st_mtime > _UNLOCKED:
            folder.rmdir()
        return
    with FileLock(folder / LOCK).acquire(0):
        rmtree(folder, ignore_errors=True)
