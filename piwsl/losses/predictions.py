"""Requests of loss terms for predictions, and predictions of energies, forces and works at the points of a batch.

Point 0 denotes the structures themselves. Points 1, 2, ... denote their displaced copies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.models.potential import Potential
from piwsl.typing import Energies, Forces, StructureIndex

ORIGIN, FIRST, SECOND = 0, 1, 2


class Work(NamedTuple):
    """Work sum_i (x_end,i - x_start,i) . F_i of the forces at one point along the step between two points."""

    point: int
    start: int
    end: int

    @property
    def reverse(self) -> "Work":
        """Work along the opposite step, which has the opposite sign."""
        return Work(self.point, self.end, self.start)


@dataclass(frozen=True)
class PredictionRequest:
    """Predictions that a loss term requires at each point.

    Attributes:
        energies: Points whose energies are required.
        forces: Points whose forces are required.
        works: Works that are required. A single work at a point can be computed without forces.
        stress: Whether the stress of the structures themselves is required.
        curvature: Whether the product of the Hessian with a direction is required, at the structures themselves.
    """

    energies: frozenset[int] = frozenset()
    forces: frozenset[int] = frozenset()
    works: frozenset[Work] = frozenset()
    stress: bool = False
    curvature: bool = False

    @property
    def copies(self) -> int:
        """Number of displaced copies that are required."""
        points = {*self.energies, *self.forces}
        for work in self.works:
            points.update(work)
        return max(points, default=0)

    @property
    def points(self) -> list[int]:
        """Points at which the model is evaluated."""
        return sorted({*self.energies, *self.forces, *(work.point for work in self.works), *([0] * self.stress)})

    @classmethod
    def union(cls, requests: Iterable["PredictionRequest"]) -> "PredictionRequest":
        """Return the union of several requests."""
        requests = list(requests)
        return cls(
            energies=frozenset().union(*(request.energies for request in requests)),
            forces=frozenset().union(*(request.forces for request in requests)),
            works=frozenset().union(*(request.works for request in requests)),
            stress=any(request.stress for request in requests),
            curvature=any(request.curvature for request in requests),
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom of S structures with N atoms."""

    energies: Energies
    forces: Forces


@dataclass(frozen=True, eq=False)
class PointPredictions:
    """Requested energies, forces and works at the points of a batch.

    Attributes:
        displacements: Displacements (N, 3) of the points 1, 2, ..., angstrom.
        structure_index: Structure of each atom (N,).
        n_atoms: Number of atoms of each structure (S,).
        energies: Energies (S,) by point, eV, float64.
        forces: Forces (N, 3) by point, eV/angstrom.
        works: Works (S,) computed without forces, eV.
        stress: Stress (S, 3, 3) of the structures themselves, eV/angstrom^3.
        curvature: Product (N, 3) of the Hessian with a direction at the structures themselves, eV/angstrom^2.
        teacher: Predictions of the teacher at the same points, without gradient; None without terms that require them.
    """

    displacements: Sequence[Tensor]
    structure_index: StructureIndex
    n_atoms: Tensor
    energies: Mapping[int, Energies] = field(default_factory=dict)
    forces: Mapping[int, Forces] = field(default_factory=dict)
    works: Mapping[Work, Tensor] = field(default_factory=dict)
    stress: Tensor | None = None
    curvature: Tensor | None = None
    teacher: "PointPredictions | None" = None

    @classmethod
    def of(
        cls,
        predictions: Sequence[tuple[Energies, Forces]],
        displacements: Sequence[Tensor],
        structure_index: StructureIndex | None = None,
    ) -> "PointPredictions":
        """Return the predictions of any model in the form that loss terms require.

        Args:
            predictions: Energies (S,) in eV and forces (N, 3) in eV/angstrom at x, x + d, x + d', ...
            displacements: Displacements d, d', ... of the copies, each (N, 3) in angstrom.
            structure_index: Structure of each atom (N,). With None, all atoms belong to one structure.
        """
        atoms = predictions[0][1]
        index = atoms.new_zeros(len(atoms), dtype=torch.int64) if structure_index is None else structure_index
        count = predictions[0][0].numel()
        return cls(
            displacements=displacements,
            structure_index=index,
            n_atoms=torch.bincount(index, minlength=count),
            energies={point: energies.reshape(count) for point, (energies, _) in enumerate(predictions)},
            forces={point: forces for point, (_, forces) in enumerate(predictions)},
        )

    @property
    def n_structures(self) -> int:
        """Number of structures S."""
        return len(self.n_atoms)

    def step(self, start: int, end: int) -> Tensor:
        """Return x_end - x_start (N, 3), angstrom."""
        if start == 0:
            return self.displacements[end - 1]
        if end == 0:
            return -self.displacements[start - 1]
        return self.displacements[end - 1] - self.displacements[start - 1]

    def work(self, work: Work) -> Tensor:
        """Return a work of each structure (S,), eV, float64."""
        if work in self.works:
            return self.works[work]
        product = (self.step(work.start, work.end) * self.forces[work.point]).sum(-1)
        return sum_per_structure(product, self.structure_index, self.n_structures)

    def prediction(self, point: int) -> Prediction:
        """Return the energies and forces at one point."""
        return Prediction(self.energies[point], self.forces[point])


def predict(potential: Potential, batch: Batch, create_graph: bool = True) -> Prediction:
    """Evaluate a potential on a batch. With ``create_graph``, the forces are differentiable."""
    return Prediction(*potential(*batch.graph, create_graph=create_graph))


def predict_conservative(potential: Potential, batch: Batch) -> Prediction:
    """Return energies and -dE/dx without a graph for training.

    For a potential with direct forces, -dE/dx differs from the forces of its force head.
    """
    positions = batch.positions.detach().requires_grad_(True)
    energies = potential.energies(*batch.moved(positions).graph)
    (gradient,) = torch.autograd.grad([energies.sum()], [positions])
    return Prediction(energies.detach(), -gradient)


def sum_per_structure(values: Tensor, structure_index: StructureIndex, n_structures: int) -> Tensor:
    """Return the sums (S,) of per-atom values (N,) over each structure, in float64."""
    values = values.double()
    return values.new_zeros(n_structures).index_add(0, structure_index, values)
