"""Files: written so that a reader never sees half of one, and hashed. Failures of the system become one line here."""

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

_SMALL, _RATIO = 2**28, 200  # bytes of arrays that any npz file may hold, and multiple of its size
_FULL_TEXTS = ("no space left", "disk is full", "file too large", "quota exceeded")  # of libraries without numbers
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_NAME = 100  # characters of a name in that of its temporary


@contextmanager
def atomic_path(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it there when the block ends without an error.

    The temporary is in a hidden directory ``.NAME.XXXXXXXX.tmp``. One that a killed process left is removed by the
    next call for the same path.

    Args:
        path: File to write.
        errors: Exceptions by which the library that writes reports that the disk refuses.

    Raises:
        RunDirectoryError: The disk refuses.
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
        raise unwritable(path, error, "try again") from None


def _concerns_another_file(error: Exception, path: Path, folder: Path | None) -> bool:
    """Return whether a failure names a file that is neither written here nor on the way to it."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str | os.PathLike):
        return False
    near = {path, *path.parents, *path.absolute().parents}
    return Path(name) not in near and (folder is None or folder not in Path(name).parents) and Path(name) != folder


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
        if isinstance(error, PiwslError):
            raise
        raise unwritable(path, error, "continue the run") from None


def unwritable(path: Path, error: Exception, then: str) -> RunDirectoryError:
    """Return the error of a file or directory that cannot be written; ``then`` is what the user can do afterwards."""
    number = getattr(error, "errno", None)
    if number in FULL or any(text in str(error).lower() for text in _FULL_TEXTS):
        advice = "make room"
    elif number in _NOT_WRITABLE or not isinstance(error, OSError):
        advice = "make it writable"
    else:
        advice = "choose another place or make it writable"
    return RunDirectoryError(f"{path}: cannot be written ({reason_of(error)}): {advice}, then {then}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


LARGEST_JSON = 256 * 2**20  # bytes of a file


def read_json_object(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that contains an object; what the object contains is for a typed model to check.

    Raises:
        RunDirectoryError: The file is larger than ``largest`` bytes, cannot be read, or contains something else.
    """
    try:
        if path.stat().st_size > largest:
            raise RunDirectoryError(f"{path}: damaged: larger than {largest // 2**20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({reason_of(error)})") from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is one, too
        raise RunDirectoryError(f"{path} is not valid JSON: restore the file or rerun the job") from None
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} contains no JSON object: restore the file or rerun the job")
    return content


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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


def write_checked_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays and their checksum to a compressed npz file, atomically; `read_checked_npz` reads it."""
    write_npz(path, **arrays, checksum=np.array(arrays_sha256(arrays)))


def read_checked_npz(path: Path) -> dict[str, Any]:
    """Read the arrays of a file from `write_checked_npz`; nothing is unpickled.

    Raises:
        ValueError: The file cannot be read, its arrays would be much larger than it, or its checksum differs.
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
