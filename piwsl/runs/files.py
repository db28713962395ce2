"""Files: written so that a reader never sees half of one, and hashed."""

import errno
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import RunDirectoryError, reason_of

_SMALL, _RATIO = 2**28, 200  # bytes of arrays that any npz file may hold, and multiple of its size
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
    """Convert errors of the disk within the block to a one-line RunDirectoryError.

    Args:
        path: File or directory that is written.
        errors: Exceptions with which the writing library reports such errors.

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


def write_npz(path: Path, **arrays: Any) -> None:
    """Write a compressed npz file atomically."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_checked_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays and their checksum to a compressed npz file, atomically; `read_checked_npz` reads it."""
    write_npz(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


def read_checked_npz(path: Path) -> dict[str, Any]:
    """Read the arrays of a file from `write_checked_npz`; nothing is unpickled.

    Raises:
        ValueError: the file cannot be read, its arrays would be much larger than it, or its checksum differs.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max(_SMALL, _RATIO * len(content)):
                raise ValueError("its arrays are larger than the file can hold")
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise ValueError(reason_of(error)) from None
    if str(arrays.pop("checksum", "")) != arrays_sha256(arrays):
        raise ValueError("the checksum differs")
    return arrays


def arrays_sha256(arrays: Mapping[str, Any]) -> str:
    """Return a SHA-256 of named arrays: of their names, types, shapes and values, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
    """Return one hash for training files: the SHA-256 of a single file, or that of the list of hashes of several.

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
