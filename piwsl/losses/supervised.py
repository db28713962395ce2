"""Supervised terms: one value per structure, zero gradient where the label is missing."""

from typing import Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.prediction import Prediction, sum_per_structure


class SupervisedTerm(Protocol):
    """A comparison of a prediction with the labels of a batch."""

    name: str

    def __call__(self, prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values (S,), zero where there is no label, and the mask (S,) of structures that have one."""


class EnergyMAE:
    """Absolute error of the total energy, eV (method of Takamoto et al. 2025, supervised part)."""

    name = "energy"

    def __call__(self, prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
        """|E - E_ref| per structure (S,)."""
        labelled = torch.isfinite(batch.energy)
        # Replace missing labels before the arithmetic: 0 x NaN would poison the gradient.
        reference = torch.where(labelled, batch.energy, prediction.energies.detach())
        return (prediction.energies - reference).abs(), labelled


class ForceL2MAE:
    """Mean over the atoms of the norm of the force error, eV/angstrom."""

    name = "forces"

    def __call__(self, prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
        """mean_i |F_i - F_ref,i| per structure (S,)."""
        known = torch.isfinite(batch.forces).all(-1)
        reference = torch.where(known.unsqueeze(-1), batch.forces, prediction.forces.detach())
        # The norm has no gradient at zero; vector_norm takes zero there, which is what a perfect force needs.
        errors = torch.linalg.vector_norm(prediction.forces - reference, dim=-1)
        sums = sum_per_structure(errors, batch.structure_index, batch.n_structures)
        unknown = sum_per_structure((~known).double(), batch.structure_index, batch.n_structures)
        return sums / batch.n_atoms, unknown == 0
