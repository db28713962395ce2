"""Weights of labels by the spread of the ensemble of models that computed them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from piwsl.data.batch import Batch


@dataclass(frozen=True)
class SpreadWeights:
    """Weights of energy labels and of the force labels of atoms.

    A label with the spread s has the weight 1 / (1 + (s / scale)^2), or 0 if s exceeds a limit. A label without a
    spread has the weight 1.

    Attributes:
        largest_energy: Largest spread of an energy that is used, eV; None for no limit.
        largest_force: Largest spread of the force on an atom that is used, eV/angstrom; None for no limit.
        energy_scale: Spread of an energy at which its weight is 1/2, eV; None for equal weights.
        force_scale: Spread of a force at which its weight is 1/2, eV/angstrom; None for equal weights.
    """

    largest_energy: float | None = None
    largest_force: float | None = None
    energy_scale: float | None = None
    force_scale: float | None = None

    def of_energies(self, batch: Batch) -> Tensor | None:
        """Return the weights (S,) of the energy labels of a batch; None if all weights are 1."""
        return _weights(batch.energy_spread, self.largest_energy, self.energy_scale)

    def of_forces(self, batch: Batch) -> Tensor | None:
        """Return the weights (N,) of the force labels of a batch; None if all weights are 1."""
        weights = _weights(batch.force_spread, self.largest_force, self.force_scale)
        return None if weights is None else weights.to(batch.forces.dtype)


EQUAL_WEIGHTS = SpreadWeights()


def _weights(spreads: Tensor | None, largest: float | None, scale: float | None) -> Tensor | None:
    if spreads is None or (largest is None and scale is None):
        return None
    spreads = torch.nan_to_num(spreads, nan=0.0)
    weights = torch.ones_like(spreads) if scale is None else 1.0 / (1.0 + (spreads / scale).square())
    return weights if largest is None else torch.where(spreads > largest, 0.0, weights)
