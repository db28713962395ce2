"""Check ASE's binary trajectories (.traj) before ASE reads them, because ASE trusts every size in the file.

The file begins with ``- of UlmASE-Trajectory``, the version, the number of items and the offset of the item table. An
item is the length of a JSON text followed by the text, which refers to arrays by shape, type and offset.
"""

import struct
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import DataError
from piwsl.runs.untrusted import TooLargeError, parse_json

_MAGIC = b"- of Ulm"
_TAG = b"ASE-Trajectory"
_HEADER = 48  # bytes
_LONGEST_TEXT = 4096  # bytes of one text element


def check_traj(path: Path) -> None:
    """Compare all sizes and offsets in a trajectory with the size of the file.

    Raises:
        DataError: The file has another format, or is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
        if header[:8] != _MAGIC or not header[8:24].startswith(_TAG) or len(header) < _HEADER:
            raise DataError(f"{path}: not an ASE trajectory, or written before 2015: convert it to another format")
        _, items, place = struct.unpack("<3q", header[24:])
        if not 0 <= items <= size // 8 or not 0 <= place <= size - 8 * items:
            raise TooLargeError(f"{items} frames at byte {place}, in a file of {size} bytes")
        stream.seek(place)
        offsets = np.frombuffer(stream.read(8 * items), dtype="<i8")
        if len(np.unique(offsets)) < items:
            raise ValueError("two frames at the same place")
        for offset in offsets.tolist():
            if not _HEADER <= offset <= size - 8:
                raise ValueError(f"a frame at byte {offset}, in a file of {size} bytes")
            stream.seek(offset)
            (length,) = struct.unpack("<q", stream.read(8))
            if not 0 <= length <= size - offset - 8:
                raise TooLargeError(f"a frame of {length} bytes, in a file of {size} bytes")
            _check_arrays(parse_json(stream.read(length)), size)


def _check_arrays(node: Any, size: int, depth: int = 0) -> None:
    """Check the arrays of an item, stored at an offset in the file or as ``__ndarray__`` in the JSON text."""
    if depth > 20:
        raise ValueError("nested too deeply")
    if isinstance(node, str) and ("ndarray" in node or "\\u" in node):  # constraints are stored as JSON within JSON
        _check_arrays(parse_json(node), size, depth + 1)
    if isinstance(node, list):
        for value in node:
            if isinstance(value, list | dict | str):
                _check_arrays(value, size, depth + 1)
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        if name == "ndarray":
            shape, kind, place = value
            check_array(shape, kind, size - place)
        elif name == "__ndarray__":
            check_ndarray(value)
        elif isinstance(value, list | dict | str):
            _check_arrays(value, size, depth + 1)


def check_array(shape: Any, kind: Any, available: int) -> None:
    """Raise an error if an array needs more bytes than are available.

    Raises:
        TooLargeError: The array needs more bytes.
        ValueError: The shape is invalid, or the type is not a plain numerical type.
    """
    count = elements(shape)
    dtype = np.dtype(kind)
    if dtype.kind not in "biufc":
        raise ValueError(f"an array of type {dtype}")
    if count * dtype.itemsize > available:
        raise TooLargeError(f"an array of {count} numbers, but only {available} bytes are left")


def check_ndarray(value: Any) -> None:
    """Raise an error if the shape of an array in JSON does not match its number of values.

    Raises:
        ValueError: The shape does not match, or the type is not a plain numerical type.
    """
    shape, kind, numbers = value
    count = prod(shape) if isinstance(shape, list) else shape
    given = len(numbers) if isinstance(numbers, list) else 1
    if count * _numbers_of(kind) != given:
        raise TooLargeError(f"an array of {count} numbers, but the file contains {given}")


@lru_cache(maxsize=100)
def _numbers_of(kind: str) -> int:
    """Return how many JSON numbers represent one element of a type."""
    dtype = np.dtype(kind)
    if dtype.kind not in "biufcSU" or dtype.itemsize > _LONGEST_TEXT:
        raise ValueError(f"an array of type {dtype}")
    return 2 if dtype.kind == "c" else 1


def elements(shape: Any) -> int:
    """Return the number of elements in an array of a shape.

    Raises:
        ValueError: The shape is invalid.
    """
    shape = [shape] if isinstance(shape, int) else shape
    if not isinstance(shape, list | tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array without a shape")
    count = 1
    for length in shape:
        count *= length
    return count
