"""Baselines for comparison with PITC and PISC: labels transferred to displaced structures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.predictions import FIRST, PointPredictions, PredictionRequest, sum_per_structure
from piwsl.losses.supervised import EnergyMAE, ForceL2MAE, absolute_error


@dataclass(frozen=True)
class NoisyNode:
    """Supervised terms at displaced coordinates with the labels of the undisplaced structure.

    Attributes:
        terms: Supervised terms at the displaced copy, with their coefficients.
    """

    name: ClassVar[str] = "noisy_node"
    terms: Sequence[tuple[EnergyMAE | ForceL2MAE, float]] = ((EnergyMAE(FIRST), 1.0), (ForceL2MAE(FIRST), 100.0))

    @property
    def request(self) -> PredictionRequest:
        """Union of the requests of the supervised terms."""
        return PredictionRequest.union(term.request for term, _ in self.terms)

    def applies(self, batch: Batch) -> bool:
        """Return whether the batch has a label of one of the supervised terms."""
        return any(term.applies(batch) for term, _ in self.terms)

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted supervised errors per structure (S,) and the mask (S,) of structures with any label.

        Terms without a label contribute zero.
        """
        total = batch.energy.new_zeros(batch.n_structures)
        any_label = torch.zeros_like(batch.energy, dtype=torch.bool)
        for term, coefficient in self.terms:
            values, labeled = term(points, batch)
            total = total + coefficient * torch.where(labeled, values, torch.zeros_like(values))
            any_label = any_label | labeled
        return total, any_label


@dataclass(frozen=True)
class TaylorLabels:
    """Absolute energy error of displaced structures against labels extrapolated with forces.

    The term is |E(S_d) - (E_ref - d.F_ref)|, from Cooper et al., npj Comput. Mater. 6, 54 (2020).
    """

    name: ClassVar[str] = "taylor_labels"

    @property
    def request(self) -> PredictionRequest:
        """Request for the energy of the displaced copy."""
        return PredictionRequest(energies=frozenset({FIRST}))

    def applies(self, batch: Batch) -> bool:
        """Return whether the batch contains both energy labels and force labels."""
        return bool(torch.isfinite(batch.energy).any() and torch.isfinite(batch.forces).any())

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the absolute errors per structure (S,), eV, and the mask (S,) of structures with all labels."""
        work = (points.displacements[0] * batch.forces).sum(-1)
        labels = batch.energy - sum_per_structure(work, batch.structure_index, batch.n_structures)
        return absolute_error(points.energies[FIRST], labels)
