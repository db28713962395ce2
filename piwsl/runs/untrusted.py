"""The boundary for files that others wrote: sizes are checked before memory is taken, errors become one line.

A number in a file is a claim. A reader compares it with the size of the file first: what is unpacked from a file of n
bytes may take `largest_content` of n, which no honest file exceeds and no bomb keeps to.
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

PACKING = 100  # bytes of content for a byte of the file; coordinates compress 2 to 10 times
ALLOWANCE = 64 * 2**20  # bytes that every file may unpack to


class TooLargeError(ValueError):
    """A file states more content than a file of its size can have."""


@contextmanager
def reading(path: Path, where: str = "not readable") -> Iterator[None]:
    """Turn whatever a library raises about the content of a file into one line.

    Args:
        path: The file.
        where: What failed, for the message.

    Raises:
        DataError: The block raised an exception that is not a `PiwslError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of libraries on the headers of foreign files
            yield
    except PiwslError:
        raise
    except Exception as error:  # parsers raise whatever they meet
        raise DataError(f"{path}: {where} ({reason_of(error)})") from error


def largest_content(stored: int) -> int:
    """Return the largest size in bytes that ``stored`` bytes of a file may unpack to."""
    return ALLOWANCE + PACKING * stored


def check_content(what: str, size: int, stored: int) -> None:
    """Refuse a size that a file states and cannot have.

    Args:
        what: Name of the content, for the message.
        size: Size that the file states, bytes.
        stored: Bytes in the file.

    Raises:
        TooLargeError: The size is negative, or above `largest_content`.
    """
    if not 0 <= size <= largest_content(stored):
        raise TooLargeError(f"{what} would take {size} bytes, in a file of {stored}")


def inflate(data: bytes) -> bytes:
    """Unpack zlib data of a size that is not known in advance.

    Raises:
        TooLargeError: The content is larger than `largest_content`.
        zlib.error: The data are damaged or cut.
    """
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, largest_content(len(data)))
    if unpacker.unconsumed_tail:
        raise TooLargeError(f"{len(data)} compressed bytes unpack to more than {len(content)}")
    if not unpacker.eof:
        raise zlib.error("incomplete")
    return content


class Readable(Protocol):
    """A binary stream of lines."""

    def readline(self, limit: int, /) -> bytes:
        """Read to the end of the line, at most ``limit`` bytes."""


class Limited:
    """A binary stream that refuses to unpack more than a file of its size can hold.

    Args:
        stream: Unpacks a file.
        stored: Bytes in the file.
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
    """Refuse a zip archive whose members are larger than a file of its size can hold, or share a name.

    Raises:
        TooLargeError: The members are too large together.
        ValueError: Two members have the same name.
    """
    members = archive.infolist()
    check_content("the content", sum(member.file_size for member in members), stored)
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("two members of the archive have the same name")


def parse_json(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON; too deep nesting is a ValueError like other damage.

    Raises:
        ValueError: The text is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
