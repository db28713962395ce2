"""What every loss term is: a name, a request to the model, and one value per structure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.points import PointPredictions
from piwsl.losses.request import PredictionRequest


class Term(Protocol):
    """A part of a loss."""

    @property
    def name(self) -> str:
        """Name in logs and metrics."""

    @property
    def request(self) -> PredictionRequest:
        """What the term wants to know from the model."""

    def applies(self, batch: Batch) -> bool:
        """Whether any structure of the batch has the labels that the term compares with."""

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values (S,) and the mask (S,) of structures where the term has something to say."""


@dataclass(frozen=True)
class WeightedTerm:
    """A term with its coefficient in the total loss, a number or a function of the step."""

    term: Term
    coefficient: float | Callable[[int], float]

    def at(self, step: int) -> float:
        """The coefficient at a step."""
        return self.coefficient(step) if callable(self.coefficient) else self.coefficient


def local_mean(values: Tensor, labeled: Tensor) -> Tensor | None:
    """Mean of the values of labeled structures; None where there is none."""
    return values[labeled].mean() if bool(labeled.any()) else None
