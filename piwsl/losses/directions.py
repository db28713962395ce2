"""Random and adversarial directions of displacements.

An adversarial direction is the gradient of an error of the model with respect to the positions (Takamoto et al. 2025,
section 3). The available directions differ in the labels that they require. They carry no gradient for training.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.predictions import predict, predict_conservative, sum_per_structure
from piwsl.models.potential import Potential


@dataclass(frozen=True)
class FrameRandom:
    """Random numbers of a training step, which depend on the frame but not on its batch or rank.

    Attributes:
        seed: Seed of the run.
        step: Training step.
    """

    seed: int
    step: int

    def atoms(self, batch: Batch, purpose: int, normal: bool = True) -> Tensor:
        """Return three random numbers per atom (N, 3), float64, standard normal or uniform in (-1, 1)."""
        draws = []
        for frame, count in zip(batch.frame_index.tolist(), batch.n_atoms.tolist(), strict=True):
            generator = self._generator(frame, purpose)
            draws.append(generator.standard_normal((count, 3)) if normal else generator.uniform(-1.0, 1.0, (count, 3)))
        return torch.from_numpy(np.concatenate(draws)).to(batch.positions.device)

    def shares(self, batch: Batch, purpose: int, per_atom: bool = False) -> Tensor:
        """Return uniform random numbers in [0, 1), float64, one per structure (S,) or per atom (N,)."""
        counts = batch.n_atoms.tolist() if per_atom else [1] * batch.n_structures
        draws = [
            self._generator(frame, purpose).random(count)
            for frame, count in zip(batch.frame_index.tolist(), counts, strict=True)
        ]
        return torch.from_numpy(np.concatenate(draws)).to(batch.positions.device)

    def _generator(self, frame: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.step, frame, purpose))


class Direction(Protocol):
    """Protocol of rules for the direction in which each atom is displaced."""

    @property
    def is_adversarial(self) -> bool:
        """Whether the direction depends on the model."""

    def __call__(self, batch: Batch, random: "RandomDraw", lengths: Tensor, potential: Potential) -> Tensor:
        """Return vectors (N, 3) of any length, float64. A zero vector means that no direction is preferred."""


@dataclass(frozen=True)
class RandomDraw:
    """Random vectors for one displacement in one step, also used as start or fallback of adversarial directions."""

    randomness: FrameRandom
    purpose: int

    def vectors(self, batch: Batch, normal: bool = True) -> Tensor:
        """Return random unit vectors (N, 3), float64."""
        return unit_vectors(self.randomness.atoms(batch, self.purpose, normal))


@dataclass(frozen=True)
class RandomDirection:
    """Random direction of each atom, drawn from a sphere (``normal``) or from a cube (``uniform``)."""

    draw: Literal["normal", "uniform"] = "normal"
    is_adversarial = False

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Return random unit vectors (N, 3)."""
        return random.vectors(batch, self.draw == "normal")


@dataclass(frozen=True)
class TowardsForceError:
    """Direction F_pred - F_ref, the gradient of E_ref - E_pred. Atoms without a force label move randomly."""

    is_adversarial = True

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Return the force errors (N, 3), which are zero for atoms without a label."""
        forces = predict(potential, batch, create_graph=False).forces.detach()
        difference = forces.double() - batch.forces.double()
        return torch.where(torch.isfinite(difference), difference, 0.0)


@dataclass(frozen=True)
class TowardsEnergyError:
    """Direction -sign(E_pred - E_ref) F_pred, the gradient of |E_pred - E_ref|.

    F_pred is -dE_pred/dx, even if the model has a force head. Structures without an energy label move randomly.
    """

    is_adversarial = True

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Return the signed forces (N, 3), which are zero for structures without a label."""
        prediction = predict_conservative(potential, batch)
        sign = torch.nan_to_num(torch.sign(prediction.energies - batch.energy))
        return -sign[batch.structure_index].unsqueeze(-1) * prediction.forces.double()


@dataclass(frozen=True)
class TowardsDisagreement:
    """Direction in which the energy deviates most from its first-order Taylor expansion. It requires no label.

    The direction is the gradient 2 r (dE/dx(S_d) + F(S)) of r(d)^2 at a random displacement d, where the residual is
    r = E(S_d) - E(S) + d.F(S).
    """

    is_adversarial = True

    def __call__(self, batch: Batch, random: RandomDraw, lengths: Tensor, potential: Potential) -> Tensor:
        """Return vectors (N, 3) along the gradients."""
        start = random.vectors(batch) * lengths.unsqueeze(-1)
        here = predict(potential, batch, create_graph=False)
        there = predict_conservative(potential, batch.moved(batch.positions + start.to(batch.positions.dtype)))
        forces = here.forces.detach().double()
        work = sum_per_structure((start * forces).sum(-1), batch.structure_index, batch.n_structures)
        residual = there.energies - here.energies.detach() + work
        return torch.sign(residual)[batch.structure_index].unsqueeze(-1) * (forces - there.forces.double())


def unit_vectors(vectors: Tensor) -> Tensor:
    """Return vectors (N, 3) divided by their lengths. Zero vectors remain zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(lengths > 0, vectors / lengths.clamp_min(torch.finfo(vectors.dtype).tiny), 0.0)
