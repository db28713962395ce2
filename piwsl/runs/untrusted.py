"""Checks for untrusted files: sizes are checked before memory is allocated, and errors are reported in one line.

A size stored in a file may be wrong. Readers therefore compare stored sizes with the size of the file: the content of
a file of n bytes may take up to ``largest_content(n)`` bytes. Valid files stay below this limit; decompression bombs
exceed it.
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from piwsl.errors import DataError, PiwslError, reason_of

PACKING = 100  # bytes of content per byte of the file; coordinates compress by a factor of 2 to 10
ALLOWANCE = 64 * 2**20  # bytes of content that every file may have
_FRAME = 500  # bytes of memory that a structure of any size takes at least


class TooLargeError(ValueError):
    """The stated content is too large for the size of the file."""


@contextmanager
def reading(path: Path, where: str = "not readable") -> Iterator[None]:
    """Convert exceptions of a library that reads a file to a one-line DataError.

    Args:
        path: File that is read.
        where: Description of the failed operation, used in the message.

    Raises:
        DataError: The block raised an exception that is not a `PiwslError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn about unusual file headers
            yield
    except PiwslError:
        raise
    except Exception as error:  # parsers raise many types for invalid content
        raise DataError(f"{path}: {where} ({reason_of(error)})") from error


def unreadable_hdf5(path: str | Path, error: OSError) -> DataError:
    """Return the error for an HDF5 file that h5py cannot open.

    Args:
        path: HDF5 file.
        error: Exception of h5py.
    """
    if "SWMR writing" in str(error):  # another process has the file open without SWMR
        return DataError(f"{path}: is being truncated, or was left open by a killed run: resume that run first")
    return DataError(f"{path}: not a readable HDF5 file, or truncated ({reason_of(error)})")


def check_inside(group: Any, name: str) -> None:
    """Raise an error if a member of an HDF5 file is a link, or if its values are in other files.

    Args:
        group: HDF5 file or group.
        name: Name of an existing member.

    Raises:
        DataError: The member refers to another place; HDF5 would follow it to any file that this user can read.
    """
    import h5py

    is_link = not isinstance(group.get(name, getlink=True), h5py.HardLink)
    if is_link or (isinstance(group[name], h5py.Dataset) and (group[name].is_virtual or group[name].external)):
        file = group.file.filename
        raise DataError(f"{file}: {name} refers to another place: copy its content into this file")


def largest_content(stored: int) -> int:
    """Return the largest allowed size of the content of a file of ``stored`` bytes, bytes."""
    return ALLOWANCE + PACKING * stored


def check_content(what: str, size: int, stored: int) -> None:
    """Raise an error if a size stated in a file is impossible.

    Args:
        what: Name of the content, used in the message.
        size: Size stated in the file, bytes.
        stored: Size of the file, bytes.

    Raises:
        TooLargeError: The size is negative or exceeds `largest_content`.
    """
    if not 0 <= size <= largest_content(stored):
        raise TooLargeError(f"{what} would take {size} bytes in a file of {stored} bytes")


def check_count(frames: int, stored: int) -> None:
    """Raise an error if a file is too small for a number of structures.

    Compressed files can contain millions of tiny structures, each of which takes memory beyond its numbers.

    Args:
        frames: Number of structures.
        stored: Size of the file, bytes.

    Raises:
        TooLargeError: The number is negative, or the structures exceed `largest_content`.
    """
    check_content(f"{frames} structures", frames * _FRAME, stored)


def inflate(data: bytes) -> bytes:
    """Decompress zlib data of unknown size.

    Raises:
        TooLargeError: The content is larger than `largest_content`.
        zlib.error: The data are damaged or truncated.
    """
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, largest_content(len(data)))
    if unpacker.unconsumed_tail:
        raise TooLargeError(f"{len(data)} compressed bytes unpack to more than {len(content)}")
    if not unpacker.eof:
        raise zlib.error("incomplete")
    return content


class Readable(Protocol):
    """Interface of a binary stream that is read by lines."""

    def readline(self, limit: int, /) -> bytes:
        """Read to the end of the line, at most ``limit`` bytes."""


class Limited:
    """Binary stream that raises an error if the content is too large for the size of the file.

    Args:
        stream: Stream that decompresses the file.
        stored: Size of the compressed file, bytes.
    """

    def __init__(self, stream: Readable, stored: int) -> None:
        self._stream = stream
        self._stored = stored
        self._left = largest_content(stored)

    def readline(self, limit: int, /) -> bytes:
        """Read to the end of the line, at most ``limit`` bytes.

        Raises:
            TooLargeError: The content is larger than `largest_content`.
        """
        line = self._stream.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise TooLargeError(f"{self._stored} compressed bytes unpack to more than {largest_content(self._stored)}")
        return line


def check_archive(archive: zipfile.ZipFile, stored: int) -> None:
    """Raise an error if the members of a zip archive are too large for its size, or have the same name.

    Raises:
        TooLargeError: The total size of the members is too large.
        ValueError: Two members have the same name.
    """
    members = archive.infolist()
    check_content("the content", sum(member.file_size for member in members), stored)
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("two members of the archive have the same name")


def parse_json(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON; nesting that is too deep raises ValueError, like other invalid input.

    Raises:
        ValueError: The text is not valid JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
