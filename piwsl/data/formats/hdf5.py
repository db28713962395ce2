"""Opening of HDF5 files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piwsl.errors import DataError, MissingDependencyError, reason_of

if TYPE_CHECKING:
    import h5py

_CHUNK_CACHE = 1 << 20  # bytes for each data set


def open_hdf5(path: Path, growing: bool = False) -> "h5py.File":
    """Open a file for reading, with a small cache.

    Args:
        path: the file.
        growing: whether another process may be writing to the file in SWMR mode, or was killed while writing.

    Raises:
        DataError: the file is not an HDF5 file, or truncated.
        MissingDependencyError: h5py is not installed.
    """
    module = h5py_module()
    options = {"swmr": True, "locking": False} if growing else {}
    try:
        return module.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, **options)
    except OSError as error:
        if "SWMR writing" in str(error):  # open for writing in a mode without readers
            raise DataError(
                f"{path}: is being truncated, or was left open by a killed run: resume that run first"
            ) from None
        raise DataError(f"{path}: not a readable HDF5 file, or truncated ({reason_of(error)})") from None


@contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """Open a file for a block of code, in which errors of h5py mean a damaged file.

    Raises:
        DataError: the file is damaged.
    """
    with open_hdf5(path) as file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{path}: damaged ({reason_of(error)})") from None


def h5py_module() -> Any:
    """Return the library h5py.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingDependencyError("h5py", "an HDF5 file", "data") from None
    return h5py
