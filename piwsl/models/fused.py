"""Neighbour sums for training on processors: the same results as `EdgeList`, several times faster."""

import logging
from importlib.util import find_spec

import torch
from torch import Tensor

from piwsl.models.pairs import EdgeList
from piwsl.typing import Edges, EdgeVectors

LOGGER = logging.getLogger("piwsl.training.pairs")  # a line of the log of a run


class FusedEdgeList(EdgeList):
    """Neighbour sums by compiled loops over the P = E / 2 pairs (see `piwsl.models.kernels`); eager mode on CPU only.

    Edges must be in the order of a `Batch`: the second half are the first the other way round. Filters and directions
    are made for the first half alone. All floats must be of one type, float32 or float64. Needs numba.
    """

    def distinct(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """One edge (2, P) and edge vector (P, 3) of each pair."""
        count = edges.shape[1] // 2
        return edges[:, :count], edge_vectors[:count]

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Filters (P, F) from radial features (P, R) for each F rows of a weight: contiguous, as the loops want."""
        return [radial.matmul(part.t()) for part in torch.split(weight, channels)]

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        return self.vectors(filters, values.unsqueeze(1), edges).squeeze(1)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        from piwsl.models.kernels import Trilinear, contract

        return contract(Trilinear(), 0, edges, [None, filters, values])

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (P, D) with u_ji = parity u_ij -> (N, D, F)."""
        from piwsl.models.kernels import Quadrilinear, contract

        return contract(Quadrilinear(parity), 0, edges, [None, directions, filters, values])


def training_pairs(device: torch.device, mixed_precision: bool = False) -> EdgeList:
    """The fastest neighbour sums that can be trained with on a device; the log says which and why."""
    if device.type != "cpu":
        LOGGER.info(f"neighbour sums: torch, on {device.type}")
        return EdgeList()
    if mixed_precision:
        LOGGER.info("neighbour sums: torch (the compiled loops take no mixed precision)")
        return EdgeList()
    if find_spec("numba") is None:
        LOGGER.info("neighbour sums: torch (numba would make training on this processor faster: piwsl[fast])")
        return EdgeList()
    LOGGER.info("neighbour sums: compiled loops (numba)")
    return FusedEdgeList()
