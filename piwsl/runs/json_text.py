"""JSON that every reader accepts: numbers that are not finite become null."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np


def json_text(value: Any, indent: int | None = None, compact: bool = False) -> str:
    """Return a value as JSON; NaN and infinities, which JSON does not have, become null.

    Args:
        value: Dictionaries, lists, texts and numbers, also those of numpy.
        indent: Spaces of a level; None writes one line.
        compact: Leave out the spaces of a line.
    """
    return json.dumps(finite(value), indent=indent, separators=(",", ":") if compact else None, allow_nan=False)


def finite(value: Any) -> Any:
    """Return a value with plain numbers in place of those of numpy, and None in place of those that are not finite."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value
