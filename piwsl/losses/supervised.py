"""Supervised terms with one value per structure. The gradient is zero for structures without a label."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.predictions import ORIGIN, PointPredictions, PredictionRequest, sum_per_structure
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights


@dataclass(frozen=True)
class EnergyMAE:
    """Absolute error of the total energy, eV (Takamoto et al. 2025, supervised part).

    Attributes:
        point: Point at which the energy is compared with the label.
        spread: Weights of the labels by the spread of the ensemble that computed them.
    """

    name: ClassVar[str] = "energy"
    point: int = ORIGIN
    spread: SpreadWeights = EQUAL_WEIGHTS

    @property
    def request(self) -> PredictionRequest:
        """Request for the energy at the point."""
        return PredictionRequest(energies=frozenset({self.point}))

    def applies(self, batch: Batch) -> bool:
        """Return whether any structure has an energy label."""
        return bool(torch.isfinite(batch.energy).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return |E - E_ref| per structure (S,) and the mask (S,) of labeled structures."""
        errors, labeled = absolute_error(points.energies[self.point], batch.energy)
        weights = self.spread.of_energies(batch)
        return (errors, labeled) if weights is None else (errors * weights, labeled & (weights > 0))


@dataclass(frozen=True)
class ForceL2MAE:
    """Norm of the force error of an atom, averaged over the atoms of a structure, eV/angstrom.

    Attributes:
        point: Point at which the forces are compared with the labels.
        spread: Weights of the labels by the spread of the ensemble that computed them. A structure whose labels all
            have weight zero is not included in the mean.
    """

    name: ClassVar[str] = "forces"
    point: int = ORIGIN
    spread: SpreadWeights = EQUAL_WEIGHTS

    @property
    def request(self) -> PredictionRequest:
        """Request for the forces at the point."""
        return PredictionRequest(forces=frozenset({self.point}))

    def applies(self, batch: Batch) -> bool:
        """Return whether any atom has a force label."""
        return bool(torch.isfinite(batch.forces).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean_i |F_i - F_ref,i| per structure (S,) and the mask (S,) of structures with all labels."""
        forces = points.forces[self.point]
        known = torch.isfinite(batch.forces).all(-1)
        reference = torch.where(known.unsqueeze(-1), batch.forces, forces.detach())
        # The norm is not differentiable at zero. There, the gradient of vector_norm is zero, as required.
        errors = torch.linalg.vector_norm(forces - reference, dim=-1)
        weights = self.spread.of_forces(batch)
        if weights is not None:
            errors = errors * weights
        sums = sum_per_structure(errors, batch.structure_index, batch.n_structures)
        unknown = sum_per_structure((~known).double(), batch.structure_index, batch.n_structures)
        labeled = unknown == 0
        if weights is not None:
            labeled = labeled & (sum_per_structure(weights, batch.structure_index, batch.n_structures) > 0)
        return sums / batch.n_atoms, labeled


@dataclass(frozen=True)
class StressMAE:
    """Mean absolute error of the components of the stress, eV/angstrom^3."""

    name: ClassVar[str] = "stress"

    @property
    def request(self) -> PredictionRequest:
        """Request for the stress."""
        return PredictionRequest(stress=True)

    def applies(self, batch: Batch) -> bool:
        """Return whether any structure has a stress label."""
        return bool(torch.isfinite(batch.stress).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean |stress - stress_ref| per structure (S,) and the mask (S,) of labeled structures."""
        assert points.stress is not None
        known = torch.isfinite(batch.stress).all(-1).all(-1)
        reference = torch.where(known.view(-1, 1, 1), batch.stress, points.stress.detach())
        return (points.stress - reference).abs().mean((-1, -2)), known


def absolute_error(energies: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return |E - E_ref| per structure (S,) and the mask (S,) of labeled structures."""
    labeled = torch.isfinite(labels)
    # Missing labels are replaced before the subtraction, because a gradient of 0 x NaN would be NaN.
    reference = torch.where(labeled, labels, energies.detach())
    return (energies - reference).abs(), labeled
