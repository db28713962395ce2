"""A file for libraries that end the process where the disk refuses."""

import io
from pathlib import Path
from typing import Any


class SteadyFile(io.RawIOBase):
    """A file that accepts everything: a failure is kept, what comes after it is dropped, and `check` raises it.

    HDF5 ends the process when it cannot write while it closes a file.

    Args:
        path: File to write; an existing one is emptied.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the first failure, if there was one.

        Raises:
            OSError: The disk refused.
        """
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; zeros take the place of what was dropped."""
        view = memoryview(buffer).cast("B")
        count = 0
        while count < len(view) and (more := self._file.readinto(view[count:])):
            count += more
        view[count:] = bytes(len(view) - count)
        return len(view)

    def write(self, data: Any, /) -> int:
        """Write all bytes, or keep the failure."""
        view = memoryview(data).cast("B")
        count = 0
        while self._failure is None and count < len(view):
            try:
                count += self._file.write(view[count:])
            except OSError as error:
                self._failure = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Change the size, or keep the failure."""
        size = self.tell() if size is None else size
        if self._failure is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self._failure = error
        return size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
