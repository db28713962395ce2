"""The whole training objective: supervised and consistency terms, weighted and scheduled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from piwsl.data.batch import Batch
from piwsl.losses.consistency import ConsistencyTerm
from piwsl.losses.displacements import RandomDisplacement
from piwsl.losses.prediction import Prediction
from piwsl.losses.supervised import SupervisedTerm

Term = TypeVar("Term", SupervisedTerm, ConsistencyTerm)


class Model(Protocol):
    """Anything that predicts the energies and forces of a batch, differentiably."""

    def __call__(self, batch: Batch) -> Prediction:
        """Energies (S,) and forces (N, 3) that can be differentiated with respect to parameters."""


@dataclass(frozen=True)
class WeightedTerm(Generic[Term]):
    """A term with its coefficient in the total loss."""

    term: Term
    coefficient: float


@dataclass(frozen=True)
class Objective:
    """supervised + C_PITC * PITC + C_PISC * PISC.

    Attributes:
        supervised: terms that compare with labels.
        consistency: label-free terms.
        displacement: where the copies of the consistency terms lie.
        cadence: the consistency terms act every ``cadence``-th step.
        warmup: step of their first action.
    """

    supervised: Sequence[WeightedTerm[SupervisedTerm]]
    consistency: Sequence[WeightedTerm[ConsistencyTerm]] = ()
    displacement: RandomDisplacement = field(default_factory=RandomDisplacement)
    cadence: int = 1
    warmup: int = 0

    @property
    def margin(self) -> float:
        """What the edges of a batch must reach beyond the cutoff, angstrom."""
        return self.displacement.margin if self.consistency else 0.0

    def consistency_acts(self, step: int) -> bool:
        """Whether the label-free terms act at a step."""
        return bool(self.consistency) and step >= self.warmup and (step - self.warmup) % self.cadence == 0

    def __call__(self, model: Model, batch: Batch, step: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the value of each term that acted (detached), with one call of the model.

        Means are over the structures that have the label.
        """
        displacements: list[Tensor] = []
        if self.consistency_acts(step):
            copies = max(weighted.term.copies for weighted in self.consistency)
            displacements = [self.displacement(batch, generator) for _ in range(copies)]
        predictions = model(batch.with_copies(displacements) if displacements else batch).split(1 + len(displacements))
        total = torch.zeros((), dtype=torch.float64, device=batch.energy.device)
        parts: dict[str, Tensor] = {}
        for weighted in self.supervised:
            values, labelled = weighted.term(predictions[0], batch)
            if labelled.any():
                mean = values[labelled].mean()
                parts[weighted.term.name] = mean.detach()
                total = total + weighted.coefficient * mean
        if displacements:
            for consistency in self.consistency:
                mean = consistency.term(predictions, displacements, batch).mean()
                parts[consistency.term.name] = mean.detach()
                total = total + consistency.coefficient * mean
        return total, parts
