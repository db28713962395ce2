"""Directions of displacements: random, or adversarial, towards where the model is wrong.

Adversarial directions are gradients with respect to the positions of a distance between what the model says and what
it should say (options of Takamoto et al. 2025, section 3, for different labels). They carry no gradient for training.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.prediction import predict, slopes, sum_per_structure
from piwsl.losses.randomness import FrameRandom
from piwsl.models.potential import Potential


class Direction(Protocol):
    """A field of directions over the atoms of a batch."""

    @property
    def passes(self) -> int:
        """How often the model is asked for forces."""

    def __call__(self, batch: Batch, random: "RandomDraw", lengths: Tensor, potential: Potential) -> Tensor:
        """Vectors (N, 3), float64, of any length; zero where there is no preferred direction."""


@dataclass(frozen=True)
class RandomDraw:
    """The random vectors of one displacement of one step: what directions start from and fall back to."""

    randomness: FrameRandom
    purpose: int

    def vectors(self, batch: Batch, normal: bool = True) -> Tensor:
        """Unit vectors (N, 3) in random directions, float64."""
        return unit_vectors(self.randomness.atoms(batch, self.purpose, normal))


@dataclass(frozen=True)
class RandomDirection:
    """A direction drawn for each atom: ``normal`` (uniform on the sphere) or ``uniform`` (from a cube)."""

    draw: Literal["normal", "uniform"] = "normal"
    passes = 0

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Unit vectors (N, 3)."""
        return random.vectors(batch, self.draw == "normal")


@dataclass(frozen=True)
class TowardsForceError:
    """Along F_pred - F_ref: the gradient of E_ref - E_pred. Needs force labels; random where there is none."""

    passes = 1

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Force errors (N, 3), zero where unknown."""
        forces = predict(potential, batch, create_graph=False).forces.detach()
        difference = forces.double() - batch.forces.double()
        return torch.where(torch.isfinite(difference), difference, 0.0)


@dataclass(frozen=True)
class TowardsEnergyError:
    """Along -sign(E_pred - E_ref) F_pred: the gradient of |E_pred - E_ref|. Random where no energy is labeled.

    F_pred is -dE_pred/dx here, whatever forces the model has.
    """

    passes = 1

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Signed forces (N, 3), zero where unknown."""
        prediction = slopes(potential, batch)
        sign = torch.nan_to_num(torch.sign(prediction.energies - batch.energy))
        return -sign[batch.structure_index].unsqueeze(-1) * prediction.forces.double()


@dataclass(frozen=True)
class TowardsDisagreement:
    """Towards the largest disagreement of the energy with its own first-order Taylor estimate; needs no label.

    From a random displacement d the gradient of r(d)^2 with r = E(S_d) - E(S) + d.F(S) is 2 r (dE/dx(S_d) + F(S)); its
    direction is followed.
    """

    passes = 2

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Gradients (N, 3)."""
        start = random.vectors(batch) * lengths.unsqueeze(-1)
        here = predict(potential, batch, create_graph=False)
        there = slopes(potential, batch.moved(batch.positions + start.to(batch.positions.dtype)))
        forces = here.forces.detach().double()
        work = sum_per_structure((start * forces).sum(-1), batch.structure_index, batch.n_structures)
        residual = there.energies - here.energies.detach() + work
        return torch.sign(residual)[batch.structure_index].unsqueeze(-1) * (forces - there.forces.double())


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors (N, 3) divided by their lengths; zero vectors stay zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(lengths > 0, vectors / lengths.clamp_min(torch.finfo(vectors.dtype).tiny), 0.0)
