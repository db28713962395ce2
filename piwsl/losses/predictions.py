"""What a model says at the points of a batch: the structures (point 0) and their displaced copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from piwsl.losses.prediction import Prediction, sum_per_structure
from piwsl.losses.request import Work
from piwsl.typing import Energies, Forces, StructureIndex


@dataclass(frozen=True, eq=False)
class PointPredictions:
    """Energies, forces and works at points, as far as they were asked for.

    Attributes:
        displacements: (N, 3) of the points 1, 2, ..., angstrom.
        structure_index: (N,).
        n_atoms: atoms of each structure (S,).
        energies: (S,) eV, float64, by point.
        forces: (N, 3) eV/angstrom by point.
        works: (S,) eV, where the model gave them without the forces.
        stress: (S, 3, 3) eV/angstrom^3 of the structures.
    """

    displacements: Sequence[Tensor]
    structure_index: StructureIndex
    n_atoms: Tensor
    energies: Mapping[int, Energies] = field(default_factory=dict)
    forces: Mapping[int, Forces] = field(default_factory=dict)
    works: Mapping[Work, Tensor] = field(default_factory=dict)
    stress: Tensor | None = None

    @classmethod
    def of(
        cls,
        predictions: Sequence[tuple[Energies, Forces]],
        displacements: Sequence[Tensor],
        structure_index: StructureIndex | None = None,
    ) -> "PointPredictions":
        """Points from the energies (S,) and forces (N, 3) that any model gave at x, x + d, x + d', ...

        Without ``structure_index`` all atoms belong to one structure.
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
        """S."""
        return len(self.n_atoms)

    def step(self, start: int, end: int) -> Tensor:
        """x_end - x_start (N, 3), angstrom."""
        if start == 0:
            return self.displacements[end - 1]
        if end == 0:
            return -self.displacements[start - 1]
        return self.displacements[end - 1] - self.displacements[start - 1]

    def work(self, work: Work) -> Tensor:
        """sum_i (x_end,i - x_start,i) . F_i(point) per structure (S,), float64."""
        if work in self.works:
            return self.works[work]
        product = (self.step(work.start, work.end) * self.forces[work.point]).sum(-1)
        return sum_per_structure(product, self.structure_index, self.n_structures)

    def prediction(self, point: int) -> Prediction:
        """Energies and forces at one point."""
        return Prediction(self.energies[point], self.forces[point])
