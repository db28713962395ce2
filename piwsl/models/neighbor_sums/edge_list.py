"""Sums over neighbors, in two forms that give the same result.

A network holds one of these objects and never looks at the edges itself. `EdgeList` serves any batch of graphs;
`MoleculePairs` serves one molecule of fixed size in dynamics.

Filters are one row an edge, (E, F); atoms carry scalars (N, F), or vectors and tensors of D components (N, D, F).
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.typing import Edges, EdgeVectors


class EdgeList(nn.Module):
    """Neighbor sums over any list of edges."""

    def unique_pairs(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Edges and edge vectors for which filters and directions are made: here all of them."""
        return edges, edge_vectors

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Filters (E, F) from radial features (E, R) for each F rows of a weight."""
        # split instead of slices: its gradient is one concatenation, that of slices a padded sum.
        return list(torch.split(radial.matmul(weight.t()), channels, dim=-1))

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        messages = filters * values.index_select(0, edges[1])
        return messages.new_zeros(values.shape).index_add(0, edges[0], messages)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        messages = filters.unsqueeze(1) * values.index_select(0, edges[1])
        return messages.new_zeros(values.shape).index_add(0, edges[0], messages)

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, D) with u_ji = parity u_ij -> (N, D, F)."""
        messages = directions.unsqueeze(-1) * (filters * values.index_select(0, edges[1])).unsqueeze(1)
        shape = (values.shape[0], directions.shape[1], values.shape[1])
        return messages.new_zeros(shape).index_add(0, edges[0], messages)


NeighborSums: TypeAlias = EdgeList | MoleculePairs
"""What a network takes its sums over neighbors with."""


def use_pairs(network: nn.Module, pairs: NeighborSums) -> None:
    """Let all parts of a network take their sums over neighbors in another way; the weights stay."""
    for part in network.modules():
        if isinstance(getattr(part, "pairs", None), EdgeList | MoleculePairs):
            part.pairs = pairs
