"""Strict JSON, in which numbers that are not finite become null."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np


def json_text(value: Any, indent: int | None = None, compact: bool = False) -> str:
    """Return a value as JSON; NaN and infinities, which JSON does not support, become null.

    Args:
        value: Dictionaries, lists, strings and numbers, including NumPy arrays and numbers.
        indent: Number of spaces per level; None writes a single line.
        compact: Omit spaces after separators.
    """
    return json.dumps(finite(value), indent=indent, separators=(",", ":") if compact else None, allow_nan=False)


def finite(value: Any) -> Any:
    """Convert NumPy values to plain Python values, and numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value
