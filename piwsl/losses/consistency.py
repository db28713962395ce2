"""Label-free consistency terms (Takamoto, Zaverkin, Niepert, ICML 2025).

Each compares two estimates of the energy at one point: the model's own, or a Taylor expansion around another point,

    T(a -> b) = E_a - sum_i (x_b,i - x_a,i) . [ (1-k) F_a,i + k F_b,i ],

with the structure as point A, its copy displaced by d as C, and its copy displaced by d' as B. k = 0 is the expansion
of first order, k = 1/2 the trapezoid rule (second order). Work is summed per structure; energies stay in eV.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.errors import ErrorFunction, SquaredError
from piwsl.losses.points import PointPredictions
from piwsl.losses.request import FIRST, ORIGIN, SECOND, PredictionRequest, Work

Detach = Literal["none", "target", "energy"]


class Expansion(NamedTuple):
    """A Taylor estimate of the energy at ``end`` around ``start``."""

    start: int
    end: int


@dataclass(frozen=True)
class ConsistencyTerm:
    """What the consistency terms share; a subclass says which two estimates it compares.

    Attributes:
        mixing: k in [0, 1/2].
        error: error function of the mismatch.
        detach: which side gives no gradient: ``none``, the ``target`` (the expansion, the second of two), or only
            the ``energy`` that it starts from.
        per_atom: divide the mismatch by the number of atoms first.

    Raises:
        ConfigError: k is out of range.
    """

    mixing: float = 0.5
    error: ErrorFunction = field(default_factory=SquaredError)
    detach: Detach = "none"
    per_atom: bool = False

    name: ClassVar[str]
    estimate: ClassVar[int | Expansion]
    target: ClassVar[Expansion]

    def __post_init__(self) -> None:
        if not 0.0 <= self.mixing <= 0.5:
            raise ConfigError(f"mixing k = {self.mixing}: choose a value from 0 to 0.5")

    @property
    def request(self) -> PredictionRequest:
        """Energies at the compared points and the works along the steps."""
        energies, works = {self.target.start}, {*self._works(self.target)}
        if isinstance(self.estimate, Expansion):
            energies.add(self.estimate.start)
            works.update(self._works(self.estimate))
        else:
            energies.add(self.estimate)
        return PredictionRequest(energies=frozenset(energies), works=frozenset(works))

    def applies(self, batch: Batch) -> bool:
        """Always: no label is needed."""
        return True

    def mismatch(self, points: PointPredictions) -> Tensor:
        """Difference of the two estimates per structure (S,), eV."""
        target = self._expand(points, self.target, self.detach == "energy")
        if self.detach == "target":
            target = target.detach()
        if isinstance(self.estimate, Expansion):
            return self._expand(points, self.estimate, False) - target
        return points.energies[self.estimate] - target

    def __call__(self, points: PointPredictions, batch: Batch | None = None) -> tuple[Tensor, Tensor]:
        """Loss per structure (S,); every structure takes part."""
        mismatch = self.mismatch(points)
        if self.per_atom:
            mismatch = mismatch / points.n_atoms
        return self.error(mismatch), torch.ones_like(mismatch, dtype=torch.bool)

    def _works(self, expansion: Expansion) -> list[Work]:
        points = expansion if self.mixing > 0 else (expansion.start,)
        return [Work(point, *expansion) for point in points]

    def _expand(self, points: PointPredictions, expansion: Expansion, detach_energy: bool) -> Tensor:
        weights = {expansion.start: 1.0 - self.mixing, expansion.end: self.mixing}
        energy = points.energies[expansion.start]
        if detach_energy:
            energy = energy.detach()
        for work in self._works(expansion):
            energy = energy - weights[work.point] * points.work(work)
        return energy


class PITC(ConsistencyTerm):
    """Physics-informed Taylor-expansion consistency: E(C) against T(A -> C)."""

    name = "pitc"
    estimate = FIRST
    target = Expansion(ORIGIN, FIRST)


class PITCBack(ConsistencyTerm):
    """The two-point variant: E(A) against the expansion from C back to A, T(C -> A)."""

    name = "pitc_back"
    estimate = ORIGIN
    target = Expansion(FIRST, ORIGIN)


class PISC(ConsistencyTerm):
    """Physics-informed spatial consistency: E(C) against T(B -> C)."""

    name = "pisc"
    estimate = FIRST
    target = Expansion(SECOND, FIRST)


class PISCPaths(ConsistencyTerm):
    """The two-extrapolation variant: T(A -> C) against T(B -> C), two ways to one point."""

    name = "pisc_paths"
    estimate = Expansion(ORIGIN, FIRST)
    target = Expansion(SECOND, FIRST)
