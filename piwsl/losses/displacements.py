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

LARGEST_SHARE = 0.3  # share of the distance to the nearest neighbor
# Purposes of random numbers; copy n adds 10 n.
_DIRECTION, _LENGTH, _CHOICE = 1, 2, 3


class Length(Protocol):
    """A rule that gives each atom the length of its displacement."""

    @property
    def largest(self) -> float:
        """Upper bound of all lengths, angstrom."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the length for each atom (N,), angstrom, float64."""


@dataclass(frozen=True)
class FixedLength:
    """The same length for every atom, angstrom."""

    length: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.length <= 1.0:
            raise ConfigError(f"displacement length {self.length} angstrom: choose one above 0 and at most 1")

    @property
    def largest(self) -> float:
        """Upper bound of all lengths, angstrom."""
        return self.length

    def __call__(self, batch: Batch) -> Tensor:
        """Return lengths (N,), angstrom."""
        return torch.full_like(batch.positions[:, 0], self.length, dtype=torch.float64)


@dataclass(frozen=True)
class FractionOfNearestNeighbor:
    """A fraction of the distance of each atom to its nearest neighbor.

    Attributes:
        share: Fraction of the distance.
        cap: Largest accepted value of ``share``.
        reach: Distance assumed for an atom that has no neighbor within it, angstrom.
    """

    share: float = 0.05
    cap: float = LARGEST_SHARE
    reach: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.cap <= LARGEST_SHARE:
            raise ConfigError(
                f"cap {self.cap}, a share of the nearest-neighbor distance: choose one above 0 and at most "
                f"{LARGEST_SHARE}"
            )
        if not 0.0 < self.share <= self.cap:
            raise ConfigError(
                f"displacement of {self.share} of the nearest-neighbor distance: choose one above 0 and at most "
                f"the cap, {self.cap}"
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

    The first copy is displaced along ``direction``. Further copies, which PISC needs, are displaced at random if the
    direction is adversarial, because it would place all copies on one line.

    Attributes:
        direction: Direction of the displacement of each atom.
        length: Length of the displacement of each atom; with ``draw_length`` the largest one.
        norm: ``atom``: every atom moves by the length. ``structure``: the norm over all 3N components of a
            structure is the (mean) length, and the vectors of a direction keep their relative lengths.
        draw_length: Multiply the lengths of a structure by a random number from (0, 1].
        probability: Probability that an atom is displaced.
        remove: Subtract the mean displacement (``translation``) or the whole rigid motion (``rigid``: also the
            rotation of molecules), under which the energy does not change. Lengths then vary a little and never
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
            raise ConfigError(f"probability {self.probability} that an atom moves: choose one above 0 and at most 1")

    @property
    def margin(self) -> float:
        """Largest possible decrease of the distance of two atoms, angstrom."""
        return 2.0 * self.length.largest

    def copies(self, count: int, batch: Batch, randomness: FrameRandom, potential: Potential) -> list[Tensor]:
        """Return displacements (N, 3) of several copies, angstrom, without gradient."""
        return [self(batch, randomness, potential, copy) for copy in range(count)]

    def __call__(self, batch: Batch, randomness: FrameRandom, potential: Potential, copy: int = 0) -> Tensor:
        """Return displacements (N, 3) of one copy, angstrom, without gradient."""
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
        """Return the vectors of a direction, replaced by random ones where no direction is preferred.

        Vectors are replaced for single atoms, or, with the norm over a structure, for whole structures.
        """
        sizes = vectors.abs().amax(-1)
        if self.norm == "atom":
            vectors = unit_vectors(vectors)
        else:  # an atom without a gradient stays in place if others of its structure have one
            sizes = sum_per_structure(sizes, batch.structure_index, batch.n_structures)[batch.structure_index]
        return torch.where((sizes == 0).unsqueeze(-1), draw.vectors(batch), vectors)

    def _internal(self, vectors: Tensor, batch: Batch) -> Tensor:
        if self.remove == "nothing":
            return vectors
        return without_rigid_motion(vectors, batch, rotation=self.remove == "rigid")


def _shortened(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Shorten all vectors of a structure by one factor, so that none exceeds its length (after a removal)."""
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    share = torch.where(norms > lengths, lengths / norms.clamp_min(torch.finfo(norms.dtype).tiny), 1.0)
    smallest = torch.ones(batch.n_structures, dtype=share.dtype, device=share.device)
    smallest = smallest.scatter_reduce(0, batch.structure_index, share, "amin")
    return vectors * smallest[batch.structure_index].unsqueeze(-1)


def _normalized(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Scale vectors so that the norm over a structure is the mean of its lengths."""
    index, count = batch.structure_index, batch.n_structures
    norms = sum_per_structure(vectors.square().sum(-1), index, count).sqrt()
    target = sum_per_structure(lengths, index, count) / batch.n_atoms
    scale = target / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return vectors * scale[index].unsqueeze(-1)


def without_rigid_motion(vectors: Tensor, batch: Batch, rotation: bool) -> Tensor:
    """Remove the mean and, for molecules, the rotation from displacements (N, 3), float64.

    All atoms have equal weight. The rotation is the infinitesimal one that fits best, omega = I^-1 sum_i r_i x d_i with
    r_i from the center; a linear molecule has none about its axis. Periodic structures have no rotation.
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
    """Return the mask of structures (S,) that can rotate: no atom has a neighbor in a periodic image."""
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
