"""Writing files so that a reader never sees half of one."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import RunDirectoryError, reason

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn failures of the disk within the block into one line.

    Args:
        path: File or directory that is written.
        errors: Exceptions by which the library that writes reports them.

    Raises:
        RunDirectoryError: One of these exceptions was raised.
    """
    try:
        yield
    except errors as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        advice = "make room" if full else "make it writable"
        raise RunDirectoryError(
            f"{path}: cannot be written ({reason(error)}): {advice}, then continue the run"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_npz(path: Path, **arrays: Any) -> None:
    """Write a compressed npz file atomically."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
