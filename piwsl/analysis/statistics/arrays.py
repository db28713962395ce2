"""Conversion of statistics to named arrays, as stored in npz files, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

KEYS = "@keys"


def flatten(value: Any) -> dict[str, Any]:
    """Return the arrays, numbers and strings in a dataclass or dictionary by their dotted paths.

    Nested dataclasses and dictionaries with string keys are traversed; values of None are omitted.
    """
    arrays: dict[str, Any] = {}
    _flatten("", value, arrays)
    return arrays


def restore(kind: Any, arrays: Mapping[str, Any]) -> Any:
    """Restore a value from the result of `flatten`.

    Args:
        kind: Type of the value: a dataclass, or ``dict[str, ...]`` of a dataclass.
        arrays: Arrays by dotted path.

    Raises:
        KeyError: An array is missing.
    """
    return _restore("", kind, arrays)


def _flatten(path: str, value: Any, arrays: dict[str, Any]) -> None:
    if value is None:
        return
    if is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            _flatten(f"{path}.{part.name}", getattr(value, part.name), arrays)
    elif isinstance(value, dict):
        arrays[f"{path}.{KEYS}".removeprefix(".")] = np.array(list(value), dtype=np.str_)
        for name, entry in value.items():
            _flatten(f"{path}.{name}", entry, arrays)
    else:
        arrays[path.removeprefix(".")] = value


def _restore(path: str, kind: Any, arrays: Mapping[str, Any]) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        prefix = path.removeprefix(".")
        is_there = any(name == prefix or name.startswith(f"{prefix}.") for name in arrays)
        return _restore(path, inner, arrays) if is_there else None
    if origin is dict:
        names = arrays[f"{path}.{KEYS}".removeprefix(".")]
        return {str(name): _restore(f"{path}.{name}", arguments[1], arrays) for name in names}
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{part.name: _restore(f"{path}.{part.name}", hints[part.name], arrays) for part in fields(kind)})
    value = arrays[path.removeprefix(".")]
    return kind(value) if kind in (int, float, str, bool) else np.asarray(value)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
