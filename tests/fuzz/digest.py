"""A text that depends on all that a reader returned."""

import hashlib
from typing import Any

import numpy as np
from torch import Tensor


def digest_of(*values: Any) -> str:
    """Return the SHA-256 of arrays and tensors by their bytes, and of other values by their text."""
    digest = hashlib.sha256()
    for value in values:
        numbers = value.detach().numpy() if isinstance(value, Tensor) else value
        is_array = isinstance(numbers, np.ndarray)
        digest.update(np.ascontiguousarray(numbers).tobytes() if is_array else str(value).encode())
    return digest.hexdigest()
