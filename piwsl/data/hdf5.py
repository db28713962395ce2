"""HDF5 files: which layout they have."""

from pathlib import Path

from piwsl.data.ani import DEFAULT_LEVEL, is_ani, read_ani
from piwsl.data.frames import FrameSet
from piwsl.data.hdf5_file import opened
from piwsl.data.lazy import UnknownLayoutError
from piwsl.data.packed import is_packed, read_packed
from piwsl.errors import DataError
from piwsl.units import LabelUnits


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
