"""Supervised terms: one value per structure, zero gradient where the label is missing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.points import PointPredictions
from piwsl.losses.prediction import sum_per_structure
from piwsl.losses.request import ORIGIN, PredictionRequest


@dataclass(frozen=True)
class EnergyMAE:
    """Absolute error of the total energy, eV (method of Takamoto et al. 2025, supervised part)."""

    name: ClassVar[str] = "energy"
    point: int = ORIGIN

    @property
    def request(self) -> PredictionRequest:
        """The energy."""
        return PredictionRequest(energies=frozenset({self.point}))

    def applies(self, batch: Batch) -> bool:
        """Whether an energy is labeled."""
        return bool(torch.isfinite(batch.energy).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """|E - E_ref| per structure (S,)."""
        return absolute_error(points.energies[self.point], batch.energy)


@dataclass(frozen=True)
class ForceL2MAE:
    """Mean over the atoms of the norm of the force error, eV/angstrom."""

    name: ClassVar[str] = "forces"
    point: int = ORIGIN

    @property
    def request(self) -> PredictionRequest:
        """The forces."""
        return PredictionRequest(forces=frozenset({self.point}))

    def applies(self, batch: Batch) -> bool:
        """Whether a force is labeled."""
        return bool(torch.isfinite(batch.forces).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """mean_i |F_i - F_ref,i| per structure (S,)."""
        forces = points.forces[self.point]
        known = torch.isfinite(batch.forces).all(-1)
        reference = torch.where(known.unsqueeze(-1), batch.forces, forces.detach())
        # The norm has no gradient at zero; vector_norm takes zero there, which is what a perfect force needs.
        errors = torch.linalg.vector_norm(forces - reference, dim=-1)
        sums = sum_per_structure(errors, batch.structure_index, batch.n_structures)
        unknown = sum_per_structure((~known).double(), batch.structure_index, batch.n_structures)
        return sums / batch.n_atoms, unknown == 0


@dataclass(frozen=True)
class StressMAE:
    """Mean absolute error of the components of the stress, eV/angstrom^3."""

    name: ClassVar[str] = "stress"

    @property
    def request(self) -> PredictionRequest:
        """The stress."""
        return PredictionRequest(stress=True)

    def applies(self, batch: Batch) -> bool:
        """Whether a stress is labeled."""
        return bool(torch.isfinite(batch.stress).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """mean |stress - stress_ref| per structure (S,)."""
        assert points.stress is not None
        known = torch.isfinite(batch.stress).all(-1).all(-1)
        reference = torch.where(known.view(-1, 1, 1), batch.stress, points.stress.detach())
        return (points.stress - reference).abs().mean((-1, -2)), known


def absolute_error(energies: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """|E - E_ref| per structure (S,) and where there is a label."""
    labeled = torch.isfinite(labels)
    # Replace missing labels before the arithmetic: 0 x NaN would poison the gradient.
    reference = torch.where(labeled, labels, energies.detach())
    return (energies - reference).abs(), labeled
