"""Training objective: a sum of loss terms with coefficients that may change during training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.curvature import random_directions
from piwsl.losses.directions import FrameRandom
from piwsl.losses.displacements import Displacement
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PointPredictions, PredictionRequest
from piwsl.losses.supervised import ForceL2MAE
from piwsl.losses.teacher import Teacher, TeacherForces, TeacherTerm
from piwsl.models.potential import Potential


class Term(Protocol):
    """Protocol of loss terms, with a name, a prediction request, and one value per structure."""

    @property
    def name(self) -> str:
        """Name of the term in logs and metrics."""

    @property
    def request(self) -> PredictionRequest:
        """Predictions that the term requires."""

    def applies(self, batch: Batch) -> bool:
        """Return whether any structure of the batch has the labels that the term requires."""

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the values (S,) and the mask (S,) of structures that are included in the mean."""


@dataclass(frozen=True)
class Schedule:
    """Coefficient that changes from ``first`` (up to step ``begin``) to ``last`` (from step ``end`` on).

    Raises:
        ConfigError: ``end`` is not greater than ``begin``.
    """

    first: float
    last: float
    begin: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.begin:
            raise ConfigError(f"schedule with begin={self.begin} and end={self.end}: choose end greater than begin")

    def __call__(self, step: int) -> float:
        """Return the coefficient at a step."""
        progress = min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin)))
        return self.first + (self.last - self.first) * self._share(progress)

    def _share(self, progress: float) -> float:
        raise NotImplementedError


class Linear(Schedule):
    """Linear change from ``first`` to ``last``."""

    def _share(self, progress: float) -> float:
        return progress


class Cosine(Schedule):
    """Change from ``first`` to ``last`` along half a cosine period, with zero slope at both ends."""

    def _share(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * progress))


class Step(Schedule):
    """Step from ``first`` to ``last`` at step ``end``."""

    def _share(self, progress: float) -> float:
        return float(progress == 1.0)


Shape = Literal["linear", "cosine", "step"]
SHAPES: dict[Shape, type[Schedule]] = {"linear": Linear, "cosine": Cosine, "step": Step}


@dataclass(frozen=True)
class WeightedTerm:
    """Loss term with its coefficient, which is a number or a function of the step."""

    term: Term
    coefficient: float | Callable[[int], float]

    def at(self, step: int) -> float:
        """Return the coefficient at a step."""
        return self.coefficient(step) if callable(self.coefficient) else self.coefficient


def local_mean(values: Tensor, labeled: Tensor) -> Tensor | None:
    """Return the mean of the values (S,) selected by a mask (S,), or None if the mask is empty."""
    return values[labeled].mean() if bool(labeled.any()) else None


@dataclass(frozen=True)
class Objective:
    """Weighted sum of loss terms, such as supervised terms + C_PITC * PITC + C_PISC * PISC.

    Attributes:
        terms: Loss terms with their coefficients.
        displacement: Rule for the displacements of the copies.
        cadence: Number of steps between evaluations of the terms that require displaced copies.
        warmup: First step at which the terms that require displaced copies are used.
        teacher: Teacher of the terms that learn from its predictions; None without such terms.

    Terms that require a Hessian-vector product follow ``cadence`` and ``warmup`` as well.
    """

    terms: Sequence[WeightedTerm]
    displacement: Displacement = field(default_factory=Displacement)
    cadence: int = 1
    warmup: int = 0
    teacher: Teacher | None = None

    @property
    def margin(self) -> float:
        """Distance by which the edges of a batch must extend beyond the cutoff, angstrom."""
        return self._displaced_margin + (self.teacher.margin if self.teacher else 0.0)

    @property
    def _displaced_margin(self) -> float:
        return self.displacement.margin if self.copies else 0.0

    @property
    def copies(self) -> int:
        """Largest number of displaced copies that a step requires."""
        return PredictionRequest.union(weighted.term.request for weighted in self.terms).copies

    @property
    def undisplaced(self) -> "Objective":
        """Objective of the validation: the supervised terms at the structures themselves.

        Without a force term, the forces of the teacher take its place, on all structures.
        """
        kept = [
            weighted
            for weighted in self.terms
            if not weighted.term.request.copies and not isinstance(weighted.term, TeacherTerm)
        ]
        taught: list[WeightedTerm] = []
        if not any(isinstance(weighted.term, ForceL2MAE) for weighted in kept):
            taught = [
                replace(weighted, term=replace(weighted.term, everywhere=True))
                for weighted in self.terms
                if isinstance(weighted.term, TeacherForces)
            ]
        return Objective([*kept, *taught], teacher=self.teacher.fresh() if self.teacher and taught else None)

    def acting(self, step: int) -> list[tuple[WeightedTerm, float]]:
        """Return the terms that are active at a step, with their coefficients."""
        displaced = step >= self.warmup and (step - self.warmup) % self.cadence == 0
        return [
            (weighted, coefficient)
            for weighted in self.terms
            if (coefficient := weighted.at(step)) > 0 and (displaced or not _is_expensive(weighted.term.request))
        ]

    def __call__(
        self,
        potential: Potential,
        batch: Batch,
        randomness: FrameRandom,
        mean: Callable[[Tensor, Tensor], Tensor | None] = local_mean,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total loss and the detached value of each active term.

        Args:
            potential: Potential to train.
            batch: Structures and labels.
            randomness: Random numbers of this step. Its ``step`` selects the coefficients.
            mean: Function that returns the mean of values (S,) selected by a mask (S,), or None if the mask is empty.
        """
        acting = self.acting(randomness.step)
        applying = [weighted.term for weighted, _ in acting if weighted.term.applies(batch)]
        request = PredictionRequest.union(term.request for term in applying)
        own = self.teacher.student_batch(batch, self._displaced_margin) if self.teacher else batch
        displacements = self.displacement.copies(request.copies, own, randomness, potential)
        directions = random_directions(own, randomness) if request.curvature else None
        points = evaluate(potential, own, displacements, request, directions)
        taught = [term.teacher_request for term in applying if isinstance(term, TeacherTerm)]
        if taught and self.teacher is not None:
            required = PredictionRequest.union(taught)
            teacher = self.teacher(batch, displacements, required, directions, self._displaced_margin)
            points = replace(points, teacher=teacher)
        total = batch.energy.new_zeros(())
        parts: dict[str, Tensor] = {}
        for weighted, coefficient in acting:
            if weighted.term.applies(batch):
                values, labeled = weighted.term(points, batch)
            else:  # The mean over several ranks is a collective call, so every rank must call it.
                values, labeled = torch.zeros_like(batch.energy), torch.zeros_like(batch.energy, dtype=torch.bool)
            value = mean(values, labeled)
            if value is not None:
                parts[weighted.term.name] = value.detach()
                total = total + coefficient * value
        return total, parts


def _is_expensive(request: PredictionRequest) -> bool:
    """Return whether a term follows the cadence: whether it requires displaced copies or second derivatives."""
    return request.copies > 0 or request.curvature
