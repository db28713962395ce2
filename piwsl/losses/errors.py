"""Error functions of the consistency terms: from a mismatch of energies to a loss, elementwise."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from piwsl.errors import ConfigError


class ErrorFunction(Protocol):
    """A non-negative function of a mismatch, zero at zero."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """Any shape to the same shape."""


@dataclass(frozen=True)
class SquaredError:
    """mismatch^2, as in Takamoto et al. 2025."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """eV to eV^2."""
        return mismatch.square()


@dataclass(frozen=True)
class AbsoluteError:
    """|mismatch|."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """eV to eV."""
        return mismatch.abs()


@dataclass(frozen=True)
class HuberError:
    """mismatch^2 / 2 up to delta, delta (|mismatch| - delta / 2) beyond (Huber 1964); delta in eV."""

    delta: float = 0.1

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise ConfigError(f"Huber delta = {self.delta}: choose a value above zero")

    def __call__(self, mismatch: Tensor) -> Tensor:
        """eV to eV^2."""
        return torch.nn.functional.huber_loss(mismatch, torch.zeros_like(mismatch), reduction="none", delta=self.delta)
