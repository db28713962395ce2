"""What a job that labels given structures computes. (Dynamics: `piwsl.data.sampling_plan`.)"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from piwsl.data.frames import Frame


@dataclass(frozen=True)
class LabellingPlan:
    """Which method on which structures: equal plans give equal labels.

    Attributes:
        method: reference method, see `piwsl.data.calculators.reference_calculator`.
        options: of its calculator, by name.
        frames: number of structures.
        structures: hash of all of them, in their order.
    """

    method: str
    frames: int
    structures: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Iterable[Frame], method: str, options: Mapping[str, Any] | None = None) -> "LabellingPlan":
        """The plan for these structures; labels they have do not count."""
        digest, count = sha256(), 0
        for frame in frames:
            digest.update(np.asarray(frame.species, dtype="<i8").tobytes())
            digest.update(np.asarray(frame.positions, dtype="<f8").tobytes())
            digest.update(np.asarray(frame.cell, dtype="<f8").tobytes())
            digest.update(bytes(frame.pbc))
            count += 1
        return cls(method, count, digest.hexdigest(), dict(options or {}))
