"""File object for libraries that end the process after a write error."""

import io
from pathlib import Path
from typing import Any


class SteadyFile(io.RawIOBase):
    """File that never fails: it stores the first write error, discards later data, and raises the error in `check`.

    HDF5 ends the process if a write error occurs while a file is being closed.

    Args:
        path: File to write; an existing file is truncated.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the first write error, if any.

        Raises:
            OSError: Data could not be written.
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
        """Set the position in the file and return the new position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; discarded data are replaced by zeros."""
        view = memoryview(buffer).cast("B")
        count = 0
        while count < len(view) and (more := self._file.readinto(view[count:])):
            count += more
        view[count:] = bytes(len(view) - count)
        return len(view)

    def write(self, data: Any, /) -> int:
        """Write all bytes, or store the error."""
        view = memoryview(data).cast("B")
        count = 0
        while self._failure is None and count < len(view):
            try:
                count += self._file.write(view[count:])
            except OSError as error:
                self._failure = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Change the size of the file, or store the error."""
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
