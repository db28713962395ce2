"""Label-free consistency terms: PITC and PISC (Takamoto, Zaverkin, Niepert, ICML 2025).

Each term names the displaced copies of a batch it wants and compares energies of copies with Taylor expansions
around others. Work d.F is summed per structure; all energies stay in eV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.prediction import Prediction, sum_per_structure

# Copies by number: 0 is the structure itself, 1 displaced by d, 2 displaced by d'.
ORIGIN, FIRST, SECOND = 0, 1, 2

Detach = Literal["none", "target", "energy"]


class ConsistencyTerm(Protocol):
    """A label-free comparison among displaced copies of a batch."""

    name: str

    @property
    def copies(self) -> int:
        """Number of displaced copies wanted."""

    def __call__(self, predictions: Sequence[Prediction], displacements: Sequence[Tensor], batch: Batch) -> Tensor:
        """One value per structure (S,), from the predictions of the structure and of its copies."""


@dataclass(frozen=True)
class _TaylorTerm:
    """What PITC and PISC share.

    Attributes:
        mixing: k in [0, 1/2]; 0 is the first-order expansion, 1/2 the trapezoid rule (second order).
        detach: which side gives no gradient: ``none``, the Taylor ``target``, or only its ``energy``.
        per_atom: divide the energy mismatch by the number of atoms before squaring.
    """

    mixing: float = 0.5
    detach: Detach = "none"
    per_atom: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.mixing <= 0.5:
            raise ConfigError(f"mixing k = {self.mixing}: choose a value from 0 to 0.5")

    def _mismatch(self, start: Prediction, end: Prediction, step: Tensor, batch: Batch) -> Tensor:
        """Squared ``E_end - (E_start - sum_i step_i . [(1-k) F_start,i + k F_end,i])`` per structure (S,)."""
        forces = (1.0 - self.mixing) * start.forces + self.mixing * end.forces
        work = sum_per_structure((step * forces).sum(-1), batch.structure_index, batch.n_structures)
        energy = start.energies.detach() if self.detach == "energy" else start.energies
        target = energy - work
        if self.detach == "target":
            target = target.detach()
        difference = end.energies - target
        if self.per_atom:
            difference = difference / batch.n_atoms
        return difference.square()


@dataclass(frozen=True)
class PITC(_TaylorTerm):
    """Physics-informed Taylor-expansion consistency: E(S_d) against the expansion around S."""

    name = "pitc"

    @property
    def copies(self) -> int:
        """One copy, displaced by d."""
        return 1

    def __call__(self, predictions: Sequence[Prediction], displacements: Sequence[Tensor], batch: Batch) -> Tensor:
        """Squared mismatch per structure (S,), eV^2."""
        return self._mismatch(predictions[ORIGIN], predictions[FIRST], displacements[0], batch)


@dataclass(frozen=True)
class PISC(_TaylorTerm):
    """Physics-informed spatial consistency: E(S_d) against the expansion around S_d', d'' = d - d'."""

    name = "pisc"

    @property
    def copies(self) -> int:
        """Two copies, displaced by d and d'."""
        return 2

    def __call__(self, predictions: Sequence[Prediction], displacements: Sequence[Tensor], batch: Batch) -> Tensor:
        """Squared mismatch per structure (S,), eV^2."""
        step = displacements[0] - displacements[1]
        return self._mismatch(predictions[SECOND], predictions[FIRST], step, batch)
