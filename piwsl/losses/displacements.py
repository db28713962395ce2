"""Displacements of atoms for the consistency terms."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.prediction import sum_per_structure


@dataclass(frozen=True)
class RandomDisplacement:
    """A random direction for each atom, of a set length (method of Takamoto et al. 2025, section 3).

    Attributes:
        length: length of the displacement of an atom, angstrom; the largest one where it is drawn.
        direction: how the direction is drawn: ``normal`` (uniform on the sphere) or ``uniform`` (from a cube).
        draw_length: draw the length of a structure's displacements from (0, length], one draw a structure.
        remove_translation: subtract the mean displacement, which teaches nothing; lengths then vary a little.
    """

    length: float = 0.05
    direction: Literal["normal", "uniform"] = "normal"
    draw_length: bool = False
    remove_translation: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.length <= 0.5:
            raise ConfigError(f"displacement length {self.length} angstrom: choose one above 0 and at most 0.5")

    @property
    def margin(self) -> float:
        """By how much two atoms can come closer, angstrom."""
        return (4.0 if self.remove_translation else 2.0) * self.length

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """Displacements (N, 3), angstrom."""
        shape = batch.positions.shape
        draw = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.direction == "uniform":
            draw = 2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0
        vectors: Tensor = draw / torch.linalg.vector_norm(draw, dim=-1, keepdim=True).clamp_min(1e-12)
        lengths = torch.full((batch.n_structures, 1), self.length, dtype=torch.float64)
        if self.draw_length:
            lengths = lengths * (1.0 - torch.rand(lengths.shape, generator=generator, dtype=torch.float64))
        index = batch.structure_index
        vectors = vectors.to(index.device) * lengths.to(index.device)[index]
        if self.remove_translation:
            sums = [sum_per_structure(vectors[:, axis], index, batch.n_structures) for axis in range(3)]
            vectors = vectors - (torch.stack(sums, dim=-1) / batch.n_atoms.unsqueeze(-1))[index]
        return vectors.to(batch.positions.dtype)
