"""Atomic writing, reading and hashing of files; errors of the system become one-line errors of piwsl."""

import csv
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import FULL, PiwslError, RunDirectoryError, printable, reason_of
from piwsl.runs.scratch import temporary_directory

_SMALL, _RATIO = 2**28, 200  # size of arrays allowed in any npz file, bytes; largest compression ratio
_FULL_TEXTS = (
    "no space left",
    "disk is full",
    "disk i/o error",  # SQLite, also at a limit of the size of files
    "file too large",
    "quota exceeded",
)  # from libraries that give no error number
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_NAME = 100  # characters of a file name that its temporary directory repeats


@contextmanager
def atomic_path(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """Yield a temporary path and move the file to ``path`` if the block ends without an error.

    The temporary file is in a hidden directory ``.NAME.XXXXXXXX.tmp`` in the same folder. If a killed process has left
    such a directory behind, the next call for the same path removes it.

    Args:
        path: File to write.
        errors: Exceptions with which the writing library reports errors of the disk.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    folder: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_directory(path.parent, f".{path.name[:_LONGEST_NAME]}.", ".tmp") as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
    except errors as error:
        if isinstance(error, PiwslError) or _concerns_another_file(error, path, folder):
            raise
        raise unwritable(path, error) from None


def _concerns_another_file(error: Exception, path: Path, folder: Path | None) -> bool:
    """Return whether an error names a file other than the written file, its parents and its temporary directory."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str | os.PathLike):
        return False
    near = {path, *path.parents, *path.absolute().parents}
    if folder is None and Path(name).name.startswith(f".{path.name[:_LONGEST_NAME]}."):  # it could not be created
        return Path(name).parent.absolute() != path.parent.absolute()
    return Path(name) not in near and (folder is None or folder not in Path(name).parents) and Path(name) != folder


def check_unused(path: Path, argument: str, force: bool) -> None:
    """Raise an error before any work if a file cannot be written because its name is in use.

    Args:
        path: File to write.
        argument: Name of the argument that contains the path.
        force: Replace an existing file; a directory is never replaced.

    Raises:
        RunDirectoryError: The path is a directory, or the file exists and ``force`` is not set.
    """
    if path.is_dir():
        raise RunDirectoryError(f"{path} is a directory, not a file: choose another {argument}")
    if path.exists() and not force:
        raise RunDirectoryError(f"{path} exists: replace it with force=True, or choose another {argument}")


@contextmanager
def writing(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Convert errors of the disk within the block to a one-line RunDirectoryError.

    Args:
        path: File or directory to write.
        errors: Exceptions with which the writing library reports such errors.

    Raises:
        RunDirectoryError: The block raised one of these exceptions.
    """
    try:
        yield
    except errors as error:
        if isinstance(error, PiwslError):
            raise
        raise unwritable(path, error) from None


def unwritable(path: Path, error: Exception) -> RunDirectoryError:
    """Return the error for a file or directory that cannot be written.

    The same command is always a correct next step: where it must continue a job instead, it states how.
    """
    number = getattr(error, "errno", None)
    if is_full(error):
        advice = "make room"
    elif number in _NOT_WRITABLE or not isinstance(error, OSError):
        advice = "make it writable"
    else:
        advice = "choose another place or make it writable"
    return RunDirectoryError(f"{path}: cannot be written ({reason_of(error)}): {advice}, then try again")


def is_full(error: Exception) -> bool:
    """Return whether an exception of the system or of a library means that a disk is full."""
    return getattr(error, "errno", None) in FULL or any(text in str(error).lower() for text in _FULL_TEXTS)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


LARGEST_JSON = 256 * 2**20  # bytes


def read_json_object(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that contains an object. The content of the object is not checked.

    Raises:
        RunDirectoryError: The file is larger than ``largest`` bytes, cannot be read, or does not contain an object.
    """
    try:
        if path.stat().st_size > largest:
            raise RunDirectoryError(f"{path}: damaged: larger than {largest // 2**20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({reason_of(error)})") from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise RunDirectoryError(f"{path} is not valid JSON: restore the file or rerun the job") from None
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} contains no JSON object: restore the file or rerun the job")
    return content


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV that is safe for spreadsheets and terminals.

    Text that begins like a formula, such as a name ``=...`` from a file, gets an apostrophe. Control characters are
    escaped.
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


def write_checked_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays and their checksum to a compressed npz file atomically, for `read_checked_npz`."""
    write_npz(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


def read_checked_npz(path: Path) -> dict[str, Any]:
    """Read the arrays from a file written by `write_checked_npz`. Nothing is unpickled.

    Raises:
        ValueError: The file cannot be read, its arrays would be much larger than the file, or its checksum differs.
    """
    if not path.is_file():  # reading a pipe would wait for its writer forever
        raise ValueError("not a regular file")
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max(_SMALL, _RATIO * len(content)):
                raise ValueError("the arrays are too large for the size of the file")
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many types for damaged bytes
        raise ValueError(reason_of(error)) from None
    if str(arrays.pop("checksum", "")) != arrays_sha256(arrays):
        raise ValueError("the checksum differs")
    return arrays


def arrays_sha256(arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the names, types, shapes and values of arrays, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# Up to this size, hashing takes seconds. Hashing a larger file would take longer than the first epoch.
LARGEST_WHOLE = 4 * 2**30  # bytes
_BLOCKS, _BLOCK = 64, 2**20  # number of hashed blocks of a large file, bytes per block


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def source_hash(files: Sequence[Path], largest: int = LARGEST_WHOLE) -> str:
    """Return one hash for training files: the SHA-256 of a single file, or of the list of hashes of several files.

    If the total size exceeds ``largest`` bytes, only the size and 64 blocks of 1 MiB of each file are hashed, and the
    hash begins with ``sampled:``.
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
