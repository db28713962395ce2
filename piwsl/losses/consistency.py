"""Label-free consistency terms (Takamoto, Zaverkin, Niepert, ICML 2025).

Each term compares two estimates of the energy at one point. An estimate is either the energy predicted by the model or
a Taylor expansion around another point,

    T(a -> b) = E_a - sum_i (x_b,i - x_a,i) . [ (1-k) F_a,i + k F_b,i ].

Point A is the structure, point C its copy displaced by d, and point B its copy displaced by d'. The first-order
expansion has k = 0, and the trapezoid rule (second order) has k = 1/2. The work is summed over the atoms of a
structure. Energies are in eV.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.predictions import FIRST, ORIGIN, SECOND, PointPredictions, PredictionRequest, Work

Detach = Literal["none", "target", "energy"]


class ErrorFunction(Protocol):
    """Protocol of non-negative functions of an energy mismatch that are zero at zero."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """Return the function of each element of the mismatch (eV)."""


@dataclass(frozen=True)
class SquaredError:
    """Error function mismatch^2, as in Takamoto et al. 2025."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """Return values in eV^2."""
        return mismatch.square()


@dataclass(frozen=True)
class AbsoluteError:
    """Error function |mismatch|."""

    def __call__(self, mismatch: Tensor) -> Tensor:
        """Return values in eV."""
        return mismatch.abs()


@dataclass(frozen=True)
class HuberError:
    """Error function of Huber (1964): mismatch^2 / 2 up to delta, and delta (|mismatch| - delta / 2) beyond.

    Attributes:
        delta: Mismatch at which the function becomes linear, eV.

    Raises:
        ConfigError: ``delta`` is not positive.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise ConfigError(f"delta={self.delta} of HuberError: choose a value above 0")

    def __call__(self, mismatch: Tensor) -> Tensor:
        """Return values in eV^2."""
        return torch.nn.functional.huber_loss(mismatch, torch.zeros_like(mismatch), reduction="none", delta=self.delta)


class Expansion(NamedTuple):
    """Taylor expansion around point ``start`` that estimates the energy at point ``end``."""

    start: int
    end: int


@dataclass(frozen=True)
class ConsistencyTerm:
    """Base class of the consistency terms. A subclass defines the two estimates that are compared.

    Attributes:
        mixing: Weight k in [0, 1/2] of the force at the end of the expansion.
        error: Error function of the mismatch.
        detach: Part without gradient: ``none``, ``target`` (the expansion, or the second of two expansions), or
            ``energy`` (only the energy at the start of the expansion).
        per_atom: Whether to divide the mismatch by the number of atoms.

    Raises:
        ConfigError: ``mixing`` is out of range.
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
            raise ConfigError(f"mixing={self.mixing}: choose a value from 0 to 0.5")

    @property
    def request(self) -> PredictionRequest:
        """Request for the energies at the points and the works along the steps between them."""
        energies, works = {self.target.start}, {*self._works(self.target)}
        if isinstance(self.estimate, Expansion):
            energies.add(self.estimate.start)
            works.update(self._works(self.estimate))
        else:
            energies.add(self.estimate)
        return PredictionRequest(energies=frozenset(energies), works=frozenset(works))

    def applies(self, batch: Batch) -> bool:
        """Return True, because the term requires no label."""
        return True

    def mismatch(self, points: PointPredictions) -> Tensor:
        """Return the difference of the two estimates per structure (S,), eV."""
        target = self._expand(points, self.target, self.detach == "energy")
        if self.detach == "target":
            target = target.detach()
        if isinstance(self.estimate, Expansion):
            return self._expand(points, self.estimate, False) - target
        return points.energies[self.estimate] - target

    def __call__(self, points: PointPredictions, batch: Batch | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss per structure (S,) and a mask (S,) that selects all structures."""
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
    """Physics-informed Taylor-expansion consistency, which compares E(C) with T(A -> C)."""

    name = "pitc"
    estimate = FIRST
    target = Expansion(ORIGIN, FIRST)


class PITCBack(ConsistencyTerm):
    """Two-point variant of PITC, which compares E(A) with the expansion T(C -> A) from C back to A."""

    name = "pitc_back"
    estimate = ORIGIN
    target = Expansion(FIRST, ORIGIN)


class PISC(ConsistencyTerm):
    """Physics-informed spatial consistency, which compares E(C) with T(B -> C)."""

    name = "pisc"
    estimate = FIRST
    target = Expansion(SECOND, FIRST)


class PISCPaths(ConsistencyTerm):
    """Two-path variant of PISC, which compares T(A -> C) with T(B -> C)."""

    name = "pisc_paths"
    estimate = Expansion(ORIGIN, FIRST)
    target = Expansion(SECOND, FIRST)
