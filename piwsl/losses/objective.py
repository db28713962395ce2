"""The whole training objective: supervised and label-free terms, weighted and scheduled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.displacements import Displacement
from piwsl.losses.evaluation import evaluate
from piwsl.losses.randomness import FrameRandom
from piwsl.losses.request import PredictionRequest
from piwsl.losses.terms import WeightedTerm, local_mean
from piwsl.models.potential import Potential


@dataclass(frozen=True)
class Objective:
    """Sum of coefficient times term, such as supervised + C_PITC * PITC + C_PISC * PISC.

    Attributes:
        terms: each with its coefficient.
        displacement: where the displaced copies lie.
        cadence: terms that need copies act every ``cadence``-th step.
        warmup: step of their first action.
    """

    terms: Sequence[WeightedTerm]
    displacement: Displacement = field(default_factory=Displacement)
    cadence: int = 1
    warmup: int = 0

    @property
    def margin(self) -> float:
        """What the edges of a batch must reach beyond the cutoff, angstrom."""
        return self.displacement.margin if self.copies else 0.0

    @property
    def copies(self) -> int:
        """Most displaced copies of a batch that a step makes."""
        return PredictionRequest.union(weighted.term.request for weighted in self.terms).copies

    @property
    def undisplaced(self) -> "Objective":
        """The objective without the terms that need copies: what validation measures."""
        return Objective([weighted for weighted in self.terms if not weighted.term.request.copies])

    def acting(self, step: int) -> list[tuple[WeightedTerm, float]]:
        """The terms that act at a step, with their coefficients."""
        displaced = step >= self.warmup and (step - self.warmup) % self.cadence == 0
        return [
            (weighted, coefficient)
            for weighted in self.terms
            if (coefficient := weighted.at(step)) > 0 and (displaced or not weighted.term.request.copies)
        ]

    def __call__(
        self,
        potential: Potential,
        batch: Batch,
        randomness: FrameRandom,
        mean: Callable[[Tensor, Tensor], Tensor | None] = local_mean,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the value of each term that acted (detached).

        Args:
            potential: what is trained.
            batch: structures and labels.
            randomness: of this step; its ``step`` decides the coefficients.
            mean: mean of the values (S,) of the structures under a mask (S,); None where there is none.
        """
        acting = self.acting(randomness.step)
        asked = [weighted.term.request for weighted, _ in acting if weighted.term.applies(batch)]
        request = PredictionRequest.union(asked)
        displacements = self.displacement.copies(request.copies, batch, randomness, potential)
        points = evaluate(potential, batch, displacements, request)
        total = batch.energy.new_zeros(())
        parts: dict[str, Tensor] = {}
        for weighted, coefficient in acting:
            if weighted.term.applies(batch):
                values, labeled = weighted.term(points, batch)
            else:  # a mean over several processes must be asked for on each
                values, labeled = torch.zeros_like(batch.energy), torch.zeros_like(batch.energy, dtype=torch.bool)
            value = mean(values, labeled)
            if value is not None:
                parts[weighted.term.name] = value.detach()
                total = total + coefficient * value
        return total, parts
