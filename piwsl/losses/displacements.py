"""Displacements of atoms: direction, length, and removal of rigid motion."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.directions import Direction, FrameRandom, RandomDirection, RandomDraw, unit_vectors
from piwsl.losses.predictions import sum_per_structure
from piwsl.models.potential import Potential

LARGEST_SHARE = 0.3  # largest displacement as a fraction of the nearest-neighbor distance
# Random streams of this module. Copy n adds 10 n.
_DIRECTION, _LENGTH, _CHOICE = 1, 2, 3


class Length(Protocol):
    """Protocol of rules for the length of the displacement of each atom."""

    @property
    def largest(self) -> float:
        """Upper bound of all lengths, angstrom."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the length for each atom (N,), angstrom, float64."""


@dataclass(frozen=True)
class FixedLength:
    """Rule with the same displacement length for every atom.

    Attributes:
        length: Length of the displacements, angstrom.

    Raises:
        ConfigError: The length is not in (0, 1].
    """

    length: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.length <= 1.0:
            raise ConfigError(f"length={self.length} of the displacements [A]: choose a value above 0 and at most 1")

    @property
    def largest(self) -> float:
        """Upper bound of all lengths, angstrom."""
        return self.length

    def __call__(self, batch: Batch) -> Tensor:
        """Return lengths (N,), angstrom."""
        return torch.full_like(batch.positions[:, 0], self.length, dtype=torch.float64)


@dataclass(frozen=True)
class FractionOfNearestNeighbor:
    """Rule with a displacement length proportional to the nearest-neighbor distance of each atom.

    Attributes:
        share: Length as a fraction of the nearest-neighbor distance.
        cap: Largest allowed value of ``share``.
        reach: Largest distance that is considered, angstrom. Atoms without a neighbor within this distance use it as
            their nearest-neighbor distance.

    Raises:
        ConfigError: ``cap`` or ``share`` is out of range.
    """

    share: float = 0.05
    cap: float = LARGEST_SHARE
    reach: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.cap <= LARGEST_SHARE:
            raise ConfigError(
                f"cap={self.cap} (fraction of the nearest-neighbor distance): choose a value above 0 and at most "
                f"{LARGEST_SHARE}"
            )
        if not 0.0 < self.share <= self.cap:
            raise ConfigError(
                f"share={self.share} (fraction of the nearest-neighbor distance): choose a value above 0 and at most "
                f"cap={self.cap}"
            )

    @property
    def largest(self) -> float:
        """Upper bound of all lengths, angstrom."""
        return self.share * self.reach

    def __call__(self, batch: Batch) -> Tensor:
        """Return lengths (N,), angstrom."""
        return self.share * nearest_neighbor_distances(batch, self.reach)


def nearest_neighbor_distances(batch: Batch, reach: float) -> Tensor:
    """Return the distance of each atom to its nearest neighbor (N,), at most ``reach``, angstrom, float64."""
    centers, neighbors = batch.edges[0], batch.edges[1]
    positions = batch.positions.detach().double()
    vectors = positions[neighbors] - positions[centers] + batch.edge_shifts.double()
    nearest = torch.full_like(positions[:, 0], reach)
    return nearest.scatter_reduce(0, centers, torch.linalg.vector_norm(vectors, dim=-1), "amin")


@dataclass(frozen=True)
class Displacement:
    """Rule for the displacements of the copies of a batch (Takamoto et al. 2025, section 3).

    The first copy is displaced along ``direction``. If the direction is adversarial, further copies for PISC are
    displaced in random directions, because otherwise all copies would lie on one line.

    Attributes:
        direction: Direction of the displacement of each atom.
        length: Length of the displacement of each atom, or the largest length with ``draw_length``.
        norm: With ``atom``, every atom moves by the length. With ``structure``, the norm of all 3N components of a
            structure equals the (mean) length, and the relative lengths of the direction vectors are preserved.
        draw_length: Whether to multiply the lengths of a structure by a random number from (0, 1].
        probability: Probability that an atom is displaced.
        remove: Rigid motion that is subtracted, because it does not change the energy: the mean displacement
            (``translation``), or also the rotation of molecules (``rigid``). Lengths then vary slightly, but never
            exceed ``length``.

    Raises:
        ConfigError: A value is out of range.
    """

    direction: Direction = field(default_factory=RandomDirection)
    length: Length = field(default_factory=FixedLength)
    norm: Literal["atom", "structure"] = "atom"
    draw_length: bool = False
    probability: float = 1.0
    remove: Literal["nothing", "translation", "rigid"] = "nothing"

    def __post_init__(self) -> None:
        if not 0.0 < self.probability <= 1.0:
            raise ConfigError(f"probability={self.probability} of a displacement: choose a value above 0 and at most 1")

    @property
    def margin(self) -> float:
        """Largest possible decrease of the distance between two atoms, angstrom."""
        return 2.0 * self.length.largest

    def copies(self, count: int, batch: Batch, randomness: FrameRandom, potential: Potential) -> list[Tensor]:
        """Return the displacements (N, 3) of several copies, angstrom, without gradient."""
        return [self(batch, randomness, potential, copy) for copy in range(count)]

    def __call__(self, batch: Batch, randomness: FrameRandom, potential: Potential, copy: int = 0) -> Tensor:
        """Return the displacements (N, 3) of one copy, angstrom, without gradient."""
        direction = self.direction if copy == 0 or not self.direction.is_adversarial else RandomDirection()
        draw = RandomDraw(randomness, 10 * copy + _DIRECTION)
        lengths = self.length(batch)
        vectors = self._preferred(direction(batch, draw, lengths, potential), draw, batch)
        if self.probability < 1.0:
            chosen = randomness.shares(batch, 10 * copy + _CHOICE, per_atom=True) < self.probability
            vectors = vectors * chosen.unsqueeze(-1)
        if self.norm == "atom":
            vectors = _shortened(self._internal(vectors * lengths.unsqueeze(-1), batch), lengths, batch)
        else:
            vectors = _normalized(self._internal(vectors, batch), lengths, batch)
        if self.draw_length:
            shares = 1.0 - randomness.shares(batch, 10 * copy + _LENGTH)
            vectors = vectors * shares[batch.structure_index].unsqueeze(-1)
        return vectors.to(batch.positions.dtype)

    def _preferred(self, vectors: Tensor, draw: RandomDraw, batch: Batch) -> Tensor:
        """Return the direction vectors (N, 3), with random vectors in place of zero vectors.

        With the norm of a structure, vectors are replaced only if all vectors of the structure are zero.
        """
        sizes = vectors.abs().amax(-1)
        if self.norm == "atom":
            vectors = unit_vectors(vectors)
        else:  # An atom without a gradient does not move if another atom of its structure has one.
            sizes = sum_per_structure(sizes, batch.structure_index, batch.n_structures)[batch.structure_index]
        return torch.where((sizes == 0).unsqueeze(-1), draw.vectors(batch), vectors)

    def _internal(self, vectors: Tensor, batch: Batch) -> Tensor:
        if self.remove == "nothing":
            return vectors
        return without_rigid_motion(vectors, batch, rotation=self.remove == "rigid")


def _shortened(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Scale the vectors of a structure by a common factor, so that no vector exceeds its length."""
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    share = torch.where(norms > lengths, lengths / norms.clamp_min(torch.finfo(norms.dtype).tiny), 1.0)
    smallest = torch.ones(batch.n_structures, dtype=share.dtype, device=share.device)
    smallest = smallest.scatter_reduce(0, batch.structure_index, share, "amin")
    return vectors * smallest[batch.structure_index].unsqueeze(-1)


def _normalized(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Scale the vectors of each structure so that their total norm equals the mean length of its atoms."""
    index, count = batch.structure_index, batch.n_structures
    norms = sum_per_structure(vectors.square().sum(-1), index, count).sqrt()
    target = sum_per_structure(lengths, index, count) / batch.n_atoms
    scale = target / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return vectors * scale[index].unsqueeze(-1)


def without_rigid_motion(vectors: Tensor, batch: Batch, rotation: bool) -> Tensor:
    """Subtract the mean and, for molecules, the rotation from displacements (N, 3), float64.

    All atoms have equal weight. The rotation is the least-squares infinitesimal rotation omega = I^-1 sum_i r_i x d_i,
    where r_i is the position relative to the center. The rotation of a linear molecule about its axis is zero. Periodic
    structures do not rotate.
    """
    index = batch.structure_index
    vectors = vectors - _means(vectors, batch)[index]
    if not rotation:
        return vectors
    arms = batch.positions.detach().double()
    arms = arms - _means(arms, batch)[index]
    moments = _sums(torch.linalg.cross(arms, vectors), batch)
    unit = torch.eye(3, dtype=arms.dtype, device=arms.device)
    inertia = _sums(
        (arms.square().sum(-1, keepdim=True).unsqueeze(-1) * unit) - arms.unsqueeze(-1) * arms.unsqueeze(-2), batch
    )
    turns = torch.linalg.pinv(inertia, rtol=1e-8, hermitian=True).matmul(moments.unsqueeze(-1)).squeeze(-1)
    turns = turns * _free(batch).unsqueeze(-1)
    turned: Tensor = torch.linalg.cross(turns[index], arms)
    return vectors - turned


def _free(batch: Batch) -> Tensor:
    """Return the mask (S,) of structures that can rotate, in which no edge crosses a periodic boundary."""
    centers, neighbors = batch.edges[0], batch.edges[1]
    crossing = (batch.edge_shifts != 0).any(-1) & (centers != neighbors)
    crossings = torch.zeros_like(batch.volume).index_add(
        0, batch.structure_index[centers], crossing.to(batch.volume.dtype)
    )
    return torch.isinf(batch.volume) & (crossings == 0)


def _sums(values: Tensor, batch: Batch) -> Tensor:
    zeros: Tensor = values.new_zeros((batch.n_structures, *values.shape[1:]))
    sums: Tensor = zeros.index_add(0, batch.structure_index, values)
    return sums


def _means(values: Tensor, batch: Batch) -> Tensor:
    return _sums(values, batch) / batch.n_atoms.unsqueeze(-1)
