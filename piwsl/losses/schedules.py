"""Coefficients that change during training."""

import math
from dataclasses import dataclass
from typing import Literal

from piwsl.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """A coefficient that goes from ``first`` (up to step ``begin``) to ``last`` (from step ``end`` on)."""

    first: float
    last: float
    begin: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.begin:
            raise ConfigError(f"a coefficient changes from step {self.begin} to {self.end}: choose end after begin")

    def __call__(self, step: int) -> float:
        """Value at a step."""
        progress = min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin)))
        return self.first + (self.last - self.first) * self._share(progress)

    def _share(self, progress: float) -> float:
        raise NotImplementedError


class Linear(Schedule):
    """A straight line."""

    def _share(self, progress: float) -> float:
        return progress


class Cosine(Schedule):
    """Half a cosine wave, flat at both ends."""

    def _share(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * progress))


class Step(Schedule):
    """A jump at ``end``."""

    def _share(self, progress: float) -> float:
        return float(progress == 1.0)


Shape = Literal["linear", "cosine", "step"]
SHAPES: dict[Shape, type[Schedule]] = {"linear": Linear, "cosine": Cosine, "step": Step}
