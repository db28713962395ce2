"""Files: written so that a reader never sees half of one, and hashed."""

import csv
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import RunDirectoryError, printable, reason_of

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it there when the block ends without an error."""
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
            f"{path}: cannot be written ({reason_of(error)}): {advice}, then continue the run"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV in which no text is a formula to a spreadsheet, or a control sequence to a terminal.

    An apostrophe is put before text that begins like a formula, such as a name ``=...`` from a file.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_csv_cell(cell) for cell in header])
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return stream.getvalue()


def _csv_cell(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell:
        return cell
    if cell[0] in "=+-@\t\r":
        try:
            float(cell)
        except ValueError:
            cell = f"'{cell}"
    return printable(cell)


def write_npz(path: Path, **arrays: Any) -> None:
    """Write a compressed npz file atomically."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


# Reading takes seconds up to here. Beyond, a run would wait longer for the hash than for its first epoch.
LARGEST_WHOLE = 4 * 2**30  # bytes
_BLOCKS, _BLOCK = 64, 2**20  # blocks of a large file that count, bytes of one


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def source_hash(files: Sequence[Path], largest: int = LARGEST_WHOLE) -> str:
    """Return one hash for the files that a run learns from: of one, its SHA-256; of several, that of their hashes.

    Files of more than ``largest`` bytes in all are not read whole: the hash is then that of their sizes and of 64
    blocks of a megabyte each, and begins with ``sampled:``.
    """
    if sum(path.stat().st_size for path in files) > largest:
        return f"sampled:{_joined([_sampled(path) for path in files])}"
    return _joined([sha256(path) for path in files])


def _joined(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for block in range(_BLOCKS):
            stream.seek(block * max(0, size - _BLOCK) // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()
