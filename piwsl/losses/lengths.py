"""How far atoms are displaced."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.errors import ConfigError

LARGEST_SHARE = 0.3  # of the distance to the nearest neighbor


class Length(Protocol):
    """Lengths of displacements, before anything is drawn."""

    @property
    def largest(self) -> float:
        """No atom moves farther than this, angstrom."""

    def __call__(self, batch: Batch) -> Tensor:
        """Length for each atom (N,), angstrom, float64."""


@dataclass(frozen=True)
class FixedLength:
    """The same length for every atom, angstrom."""

    length: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.length <= 1.0:
            raise ConfigError(f"displacement length {self.length} angstrom: choose one above 0 and at most 1")

    @property
    def largest(self) -> float:
        """The length."""
        return self.length

    def __call__(self, batch: Batch) -> Tensor:
        """Lengths (N,), angstrom."""
        return torch.full_like(batch.positions[:, 0], self.length, dtype=torch.float64)


@dataclass(frozen=True)
class FractionOfNearestNeighbor:
    """A share of the distance of each atom to its nearest neighbor.

    Attributes:
        share: of the distance.
        cap: the largest share that is accepted.
        reach: an atom with no neighbor within this distance counts as having one there, angstrom.
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
        """The share of the reach."""
        return self.share * self.reach

    def __call__(self, batch: Batch) -> Tensor:
        """Lengths (N,), angstrom."""
        return self.share * nearest_neighbor_distances(batch, self.reach)


def nearest_neighbor_distances(batch: Batch, reach: float) -> Tensor:
    """Distance of each atom to its nearest neighbor (N,), at most ``reach``, angstrom, float64."""
    centers, neighbors = batch.edges[0], batch.edges[1]
    positions = batch.positions.detach().double()
    vectors = positions[neighbors] - positions[centers] + batch.edge_shifts.double()
    nearest = torch.full_like(positions[:, 0], reach)
    return nearest.scatter_reduce(0, centers, torch.linalg.vector_norm(vectors, dim=-1), "amin")
