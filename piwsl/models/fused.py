"""Neighbour sums for training on processors: the same results as `EdgeList`, several times faster."""

import logging
from importlib.util import find_spec

import torch
from torch import Tensor

from piwsl.models.pairs import EdgeList
from piwsl.typing import Edges, EdgeVectors

LOGGER = logging.getLogger("piwsl.training.pairs")  # a line of the log of a run


class FusedEdgeList(EdgeList):
    """Neighbour sums by compiled loops over the edges (see `piwsl.models.kernels`); eager mode on CPU only.

    Needs numba.
    """

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Filters (E, F) from radial features (E, R) for each F rows of a weight: contiguous, as the loops want."""
        return [radial.matmul(part.t()) for part in torch.split(weight, channels)]

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        if not _same_floats(filters, values):
            return super().scalars(filters, values, edges)
        from piwsl.models.kernels import contract, trilinear

        return contract(trilinear, 0, edges, [None, filters, values.unsqueeze(1)]).squeeze(1)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        if not _same_floats(filters, values):
            return super().vectors(filters, values, edges)
        from piwsl.models.kernels import contract, trilinear

        return contract(trilinear, 0, edges, [None, filters, values])

    def outer(self, filters: Tensor, values: Tensor, directions: EdgeVectors, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, D) -> (N, D, F)."""
        if not _same_floats(filters, values, directions):
            return super().outer(filters, values, directions, edges)
        from piwsl.models.kernels import contract, quadrilinear

        return contract(quadrilinear, 0, edges, [None, directions, filters, values])


def _same_floats(*tensors: Tensor) -> bool:
    """Whether the compiled loops can take them; mixed precision cannot."""
    first = tensors[0].dtype
    return first in (torch.float32, torch.float64) and all(one.dtype == first for one in tensors)


def training_pairs(device: torch.device) -> EdgeList:
    """The fastest neighbour sums that can be trained with on a device; the log says which and why."""
    if device.type != "cpu":
        LOGGER.info(f"neighbour sums: torch, on {device.type}")
        return EdgeList()
    if find_spec("numba") is None:
        LOGGER.info("neighbour sums: torch (numba would make training on this processor faster: piwsl[fast])")
        return EdgeList()
    LOGGER.info("neighbour sums: compiled loops (numba)")
    return FusedEdgeList()
