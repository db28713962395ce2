"""Functions that child processes run on untrusted files. Every child imports this module, so it has few imports."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import DataError, quoted, reason_of
from piwsl.runs.untrusted import check_content
from piwsl.structures.isotopes import with_isotopes

_STRUCTURE = ("numbers", "positions")
_PLAIN = (bool, int, float, str, list, tuple, np.generic)
_MOST_OBJECTS = 1_000_000  # groups and arrays of an HDF5 file


def structures_of(path: Path) -> list[dict[str, Any]]:
    """Read the structures of a file as plain values; runs in a child process.

    Raises:
        DataError: The file cannot be read.
    """
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    try:
        found = with_isotopes(lambda: list(iread(path, index=":", do_not_split_by_at_sign=True)))
        structures = [content_of(atoms) for atoms in found]
    except UnknownFileTypeError:
        raise DataError(f"{path}: neither piwsl nor ASE can read this format") from None
    except Exception as error:  # ASE's readers raise any exception for damaged files
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from None
    return structures


def content_of(atoms: Any) -> dict[str, Any]:
    """Return an ASE structure, its named values and its calculator results as plain values."""
    named = {name: value for name, value in {**atoms.arrays, **atoms.info}.items() if name not in _STRUCTURE}
    results = getattr(atoms.calc, "results", None) or {}
    return {
        "info": {
            str(name): value for name, value in atoms.info.items() if isinstance(value, int | float | str | np.generic)
        },
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "named": {str(name): value for name, value in named.items() if _is_plain(value)},
        "results": {str(name): value for name, value in results.items() if _is_plain(value)},
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufSU")


def walk_hdf5(path: Path, whole: bool) -> None:
    """Visit all groups and arrays of a file; runs in a child process.

    Links to other files, virtual arrays and arrays with values in other files are refused: HDF5 follows them to any
    file that this user can read.

    Exceptions of the library are ignored here, because reading the damaged part later raises them again with a message.

    Args:
        path: HDF5 file.
        whole: Whether to read the values of the arrays.

    Raises:
        DataError: The file refers to other files.
    """
    import h5py

    size = path.stat().st_size
    visited = 0
    elsewhere: list[str] = []  # names whose content is in other files
    with suppress(Exception), h5py.File(path, "r") as file:
        todo = [file["/"]]
        while todo and visited < _MOST_OBJECTS:
            for item in _members(todo.pop(), elsewhere):
                visited += 1
                with suppress(Exception):
                    dict(item.attrs)
                if isinstance(item, h5py.Group):
                    todo.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.is_virtual or item.external:
                        elsewhere.append(item.name)
                        continue
                    with suppress(Exception):
                        _visit(item, size, whole)
    if elsewhere:
        raise DataError(f"{path}: {quoted(elsewhere[0])} refers to another file: copy its content into this file")


def _members(group: Any, elsewhere: list[str]) -> Iterator[Any]:
    """Yield the members stored in the file itself, and add the names of links to other files to ``elsewhere``.

    Links within the file are skipped, because they can form cycles.
    """
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            elsewhere.append(name)
        elif isinstance(link, h5py.HardLink):
            yield group[name]


def _visit(array: Any, size: int, whole: bool) -> None:
    stored = array.id.get_storage_size()
    if array.shape and array.chunks:
        for index in range(min(array.id.get_num_chunks(), _MOST_OBJECTS)):
            array.id.get_chunk_info(index)
    content = array.size * array.dtype.itemsize if array.size else 0
    if whole and stored:
        check_chunk(array)
        check_content(array.name, content, size)
        array[()]


def check_chunk(array: Any) -> None:
    """Raise an error if a chunk of an array is too large for the file; reading one value unpacks its whole chunk.

    Raises:
        ValueError: The chunk is too large.
    """
    if array.chunks:
        chunk = int(np.prod(array.chunks, dtype=float)) * array.dtype.itemsize
        check_content(f"a chunk of {array.name}", chunk, array.id.get_storage_size())
