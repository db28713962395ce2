"""Displacements of atoms: a direction, a length, and what is taken out of them."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError
from piwsl.losses.directions import Direction, RandomDirection, RandomDraw, unit_vectors
from piwsl.losses.lengths import FixedLength, Length
from piwsl.losses.prediction import sum_per_structure
from piwsl.losses.randomness import FrameRandom
from piwsl.models.potential import Potential

# Purposes of random numbers; copy n adds 10 n.
_DIRECTION, _LENGTH, _CHOICE = 1, 2, 3


@dataclass(frozen=True)
class Displacement:
    """Where the displaced copies of a batch lie (options of method section 3 of Takamoto et al. 2025).

    The first copy follows ``direction``. So do further copies, which PISC needs, if it is random; if it is
    adversarial they are displaced at random, since it would put all copies on one line.

    Attributes:
        direction: of each atom's displacement.
        length: of each atom's displacement; the largest one where it is drawn.
        norm: ``atom``: every atom moves by the length. ``structure``: the norm over all 3N components of a
            structure is the (mean) length, and the vectors of a direction keep their relative lengths.
        draw_length: multiply the lengths of a structure by one draw from (0, 1].
        probability: that an atom moves at all.
        remove: subtract the mean displacement (``translation``) or the whole rigid motion (``rigid``: also the
            rotation of molecules), which teach nothing; lengths then vary a little, never beyond the length.

    Raises:
        ConfigError: a value is out of range.
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
        """By how much two atoms can come closer, angstrom."""
        return 2.0 * self.length.largest

    def copies(self, count: int, batch: Batch, randomness: FrameRandom, potential: Potential) -> list[Tensor]:
        """Displacements (N, 3) of several copies, angstrom, without gradient."""
        return [self(batch, randomness, potential, copy) for copy in range(count)]

    def __call__(self, batch: Batch, randomness: FrameRandom, potential: Potential, copy: int = 0) -> Tensor:
        """Displacements (N, 3) of one copy, angstrom, without gradient."""
        direction = self.direction if copy == 0 or self.direction.passes == 0 else RandomDirection()
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
        """The vectors of a direction; random where it prefers none: of an atom, or of a whole structure."""
        sizes = vectors.abs().amax(-1)
        if self.norm == "atom":
            vectors = unit_vectors(vectors)
        else:  # an atom without a gradient stays, as long as others of its structure have one
            sizes = sum_per_structure(sizes, batch.structure_index, batch.n_structures)[batch.structure_index]
        return torch.where((sizes == 0).unsqueeze(-1), draw.vectors(batch), vectors)

    def _internal(self, vectors: Tensor, batch: Batch) -> Tensor:
        if self.remove == "nothing":
            return vectors
        return without_rigid_motion(vectors, batch, rotation=self.remove == "rigid")


def _shortened(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """All vectors of a structure shortened alike, where one is longer than its length (after a removal)."""
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    share = torch.where(norms > lengths, lengths / norms.clamp_min(torch.finfo(norms.dtype).tiny), 1.0)
    smallest = torch.ones(batch.n_structures, dtype=share.dtype, device=share.device)
    smallest = smallest.scatter_reduce(0, batch.structure_index, share, "amin")
    return vectors * smallest[batch.structure_index].unsqueeze(-1)


def _normalized(vectors: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Vectors scaled so that the norm over a structure is the mean of its lengths."""
    index, count = batch.structure_index, batch.n_structures
    norms = sum_per_structure(vectors.square().sum(-1), index, count).sqrt()
    wanted = sum_per_structure(lengths, index, count) / batch.n_atoms
    scale = wanted / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return vectors * scale[index].unsqueeze(-1)


def without_rigid_motion(vectors: Tensor, batch: Batch, rotation: bool) -> Tensor:
    """Displacements (N, 3), float64, without their mean and, for molecules, without their rotation.

    All atoms count alike. The rotation is the infinitesimal one that fits best: omega = I^-1 sum_i r_i x d_i with
    r_i from the center; a linear molecule has no rotation about its axis. Cells, wires and slabs cannot turn.
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
    """Which structures are molecules (S,): no atom has a neighbor in a periodic image."""
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
