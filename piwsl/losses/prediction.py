"""What a potential says about a batch, and sums over its structures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.models.potential import Potential
from piwsl.typing import Energies, Forces, StructureIndex


@dataclass(frozen=True, eq=False)
class Prediction:
    """Energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom of S structures with N atoms."""

    energies: Energies
    forces: Forces

    def split(self, copies: int) -> list["Prediction"]:
        """The predictions of a batch made by `Batch.with_copies`, one for each copy."""
        energies, forces = self.energies.chunk(copies), self.forces.chunk(copies)
        return [Prediction(e, f) for e, f in zip(energies, forces, strict=True)]


def predict(potential: Potential, batch: Batch, create_graph: bool = True) -> Prediction:
    """Evaluate a potential on a batch; with ``create_graph`` the forces can be differentiated again."""
    energies, forces = potential(
        batch.species,
        batch.positions,
        batch.edges,
        batch.edge_shifts,
        batch.structure_index,
        batch.n_structures,
        create_graph,
    )
    return Prediction(energies, forces)


def slopes(potential: Potential, batch: Batch) -> Prediction:
    """Energies and -dE/dx instead of forces, without gradient; the same as forces unless these have their own head."""
    positions = batch.positions.detach().requires_grad_(True)
    energies = potential.energies(*batch.moved(positions).graph)
    (gradient,) = torch.autograd.grad([energies.sum()], [positions])
    return Prediction(energies.detach(), -gradient)


def sum_per_structure(values: Tensor, structure_index: StructureIndex, n_structures: int) -> Tensor:
    """Sum values of atoms (N,) to one value per structure (S,), in float64."""
    values = values.double()
    return values.new_zeros(n_structures).index_add(0, structure_index, values)
