"""Temporary directories that the next run removes where a killed process left them.

Each contains a locked file as long as its process lives, on whatever machine. A directory whose lock is free is stale.
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

LOCK = "lock"
_ATTEMPTS = 20  # to make a directory that another process takes for a stale one before it is locked
_UNLOCKED = 3600.0  # s after which a directory that was never locked counts as stale
_RANDOM = r"[a-z0-9_]{8}"  # of tempfile
ANY_TEMPORARY = re.compile(rf"\..+\.{_RANDOM}\.tmp")


@contextmanager
def temporary_directory(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield a new directory, which only this user may enter, and remove it at the end of the block.

    Directories of the same prefix and suffix whose processes were killed are removed first.

    Raises:
        OSError: It cannot be made.
    """
    sweep(parent, re.compile(rf"{re.escape(prefix)}{_RANDOM}{re.escape(suffix)}"))
    folder, lock = _locked(parent, prefix, suffix)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.release()


@contextmanager
def scratch_directory(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a private directory for temporary files of this computer, in the folder that TMPDIR names.

    Args:
        purpose: A word that becomes part of its name.
        parent: Folder to use instead of that of TMPDIR.

    Raises:
        RunDirectoryError: It cannot be made.
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
    """Return a folder for temporary files whose path compilers and shells read as one word; None without any."""
    for folder in (tempfile.gettempdir(), "/var/tmp", "/tmp", os.getcwd()):  # made private inside
        if not re.search(r"[^\w./\\:+,@%=~-]", folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    return None


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let Python and the programs that it starts put their temporary files into a folder within the block."""
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
    """Make a directory and lock it; without a lock where the file system has none."""
    for _ in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(0)
        except NotImplementedError:
            return folder, None
        except (Timeout, FileNotFoundError):  # another process removes it at this moment
            continue
        except OSError:
            rmtree(folder, ignore_errors=True)
            raise
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()
    raise FileNotFoundError(2, "temporary directories disappear", str(parent))


def sweep(parent: Path, pattern: re.Pattern[str] = ANY_TEMPORARY) -> None:
    """Remove the directories of killed processes of this user whose names match; others are left alone."""
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
