"""Open HDF5 files safely.

The HDF5 library crashes or hangs on some damaged files. A child process therefore opens each file first, walks through
its groups and array indices, and reads the arrays of a small file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piwsl.data.formats.in_child import check_chunk, walk_hdf5
from piwsl.errors import DataError, MissingDependencyError, PiwslError, reason_of
from piwsl.runs.reader_process import CPU_SECONDS, call_apart
from piwsl.runs.untrusted import check_content, unreadable_hdf5

if TYPE_CHECKING:
    import h5py

_CHUNK_CACHE = 1 << 20  # bytes per array
_READ_WHOLE = 16 * 2**20  # bytes; the child reads the arrays of smaller files
_SECONDS, _BYTES_PER_SECOND = CPU_SECONDS, 1e7
_MEMORY = 2 * 2**30
_checked: set[tuple[str, int, int]] = set()  # path, modification time and size of the files that a child has checked


def open_hdf5(path: Path) -> "h5py.File":
    """Open a file for reading, with a small cache.

    Raises:
        DataError: The file is truncated or not an HDF5 file.
        MissingDependencyError: The package h5py is not installed.
    """
    module = h5py_module()
    try:
        return module.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except OSError as error:
        raise unreadable_hdf5(path, error) from None


@contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """Open a file for a ``with`` block in which exceptions of h5py are reported as a damaged file.

    Raises:
        DataError: The file is damaged.
    """
    check_hdf5(path)
    with open_hdf5(path) as file:
        try:
            yield file
        except PiwslError:
            raise
        except Exception as error:  # h5py raises any exception for damaged files
            raise DataError(f"{path}: damaged ({reason_of(error)})") from error


def check_hdf5(path: Path) -> None:
    """Check a file in a child process, once for each modification of the file.

    Raises:
        DataError: The file is damaged.
        MissingDependencyError: The package h5py is not installed.
    """
    h5py_module()
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from None
    key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
    if key not in _checked:
        seconds = _SECONDS + state.st_size / _BYTES_PER_SECOND
        call_apart(walk_hdf5, path, state.st_size <= _READ_WHOLE, memory=_MEMORY, cpu_seconds=seconds)
        _checked.add(key)


def plain_array(file: Any, name: str, kinds: str = "fiu") -> Any:
    """Return a numerical array from a file.

    Args:
        file: HDF5 file or group.
        name: Name of the array.
        kinds: Permitted NumPy type kinds.

    Raises:
        ValueError: The name refers to a group, a scalar, text or another type, or the chunks of the array are too
            large for the file.
    """
    import h5py

    array = file[name]
    if not isinstance(array, h5py.Dataset) or not array.shape or array.dtype.kind not in kinds:
        raise ValueError(f"{name} is not an array of numbers")
    check_chunk(array)
    return array


def check_stored(array: Any) -> None:
    """Raise an error if the file is too small to contain an array of the stated shape.

    Raises:
        ValueError: The file is too small for the array.
    """
    check_content(
        array.name, int(np.prod(array.shape, dtype=float)) * array.dtype.itemsize, array.id.get_storage_size()
    )


def h5py_module() -> Any:
    """Import and return h5py.

    Raises:
        MissingDependencyError: The package h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingDependencyError("h5py", "an HDF5 file", "data") from None
    return h5py
