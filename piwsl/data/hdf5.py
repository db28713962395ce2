"""HDF5 files: which layout they have, and opening them safely."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piwsl.data.frames import FrameSet
from piwsl.data.lazy import UnknownLayoutError
from piwsl.errors import DataError, MissingDependencyError
from piwsl.units import LabelUnits

if TYPE_CHECKING:
    import h5py

_CHUNK_CACHE = 1 << 20  # bytes for each data set


def read_hdf5(path: Path, units: LabelUnits | None = None, level: str | None = None) -> FrameSet:
    """Frames of an HDF5 file in the packed format or in the layout of ANI-1x, read when they are asked for.

    Args:
        path: the file.
        units: units of an ANI file that is not in hartree and angstrom; a packed file states its own.
        level: level of theory in an ANI file, such as ``ccsd(t)_cbs``.

    Raises:
        UnknownLayoutError: an HDF5 file of something else.
        DataError: the file is damaged, or the layout has no such units or level.
        MissingDependencyError: without h5py.
    """
    from piwsl.data.ani import DEFAULT_LEVEL, is_ani, read_ani
    from piwsl.data.packed import is_packed, read_packed

    with opened(path) as file:
        packed, ani = is_packed(file), is_ani(file)
        keys = ", ".join(list(file)[:5]) or "(none)"
    if packed:
        if units is not None:
            raise DataError(f"{path}: a packed file is in eV and angstrom: leave --units out")
        if level is not None:
            raise DataError(f"{path}: a packed file holds one level of theory: leave '#{level}' out")
        return read_packed(path)
    if ani:
        return read_ani(path, units, level or DEFAULT_LEVEL)
    raise UnknownLayoutError(
        f"{path}: an HDF5 file with the keys {keys}; expected the packed format of piwsl, or a group for each formula "
        "with atomic_numbers and coordinates as in ANI-1x"
    )


def open_hdf5(path: Path) -> "h5py.File":
    """Open a file for reading, with a small cache.

    Raises:
        DataError: no HDF5 file, or cut off.
        MissingDependencyError: without h5py.
    """
    module = h5py_module()
    try:
        return module.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable HDF5 file, or cut off ({reason})") from None


@contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """`open_hdf5` for a block; what fails within it is a damaged file.

    Raises:
        DataError: the file is damaged.
    """
    with open_hdf5(path) as file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{path}: damaged ({' '.join(str(error).split())})") from None


def h5py_module() -> Any:
    """The library h5py.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingDependencyError("h5py", "an HDF5 file", "data") from None
    return h5py
