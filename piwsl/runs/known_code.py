"""Hashes of code files that this user has made or named, in a folder that only this user can write.

An exported potential contains code. A run directory from an untrusted source may contain or name such a file, which
must not run without the consent of the user. Files that this user has exported, or has named as an argument, are
identified by their hash.
"""

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "PIWSL_CACHE_DIR"
_of_this_process: set[str] = set()
_YEAR = 366 * 24 * 3600.0  # s after which a hash is forgotten


def private_folder(name: str) -> Path | None:
    """Return a private folder of this user and create it if necessary; None if that is not possible.

    The folder is in ``$PIWSL_CACHE_DIR``, or in ``piwsl`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. A folder that another
    user owns or can write to is not used.
    """
    try:
        base = os.environ.get(VARIABLE) or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "piwsl")
        path = Path(base).expanduser() / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (path.parent, path):
            state = folder.lstat()
            if not stat.S_ISDIR(state.st_mode):
                return None
            if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
                return None
        return path if os.access(path, os.W_OK) else None
    except (OSError, RuntimeError):  # no home directory
        return None


def remember(digest: str) -> None:
    """Record the SHA-256 of a file that this user made or named; without a private folder, only in this process."""
    _of_this_process.add(digest)
    folder = private_folder("known_code")
    if folder is None or not _is_digest(digest):
        return
    with suppress(OSError):
        (folder / digest).touch()
        for old in folder.iterdir():
            if time.time() - old.stat().st_mtime > _YEAR:
                old.unlink()


def is_known(digest: str) -> bool:
    """Return whether this user has made or named the file with this SHA-256."""
    if digest in _of_this_process:
        return True
    folder = private_folder("known_code")
    return folder is not None and _is_digest(digest) and (folder / digest).is_file()


def is_of_this_process(digest: str) -> bool:
    """Return whether the file with this SHA-256 was made or named in this process."""
    return digest in _of_this_process


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None
