"""Interchangeable implementations of sums over neighbors with equal results.

A network delegates all operations on edges to one of these objects. `EdgeList` and `EdgeHalves` support any batch of
graphs, and `MoleculePairs` supports a single molecule of fixed size in dynamics.

Filters have one row per edge, (E, F). Features of atoms are scalars (N, F), or vectors and tensors with D components,
(N, D, F).
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.typing import Edges, EdgeVectors


class EdgeList(nn.Module):
    """Neighbor sums over any list of edges in plain PyTorch operations."""

    def unique_pairs(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return the edges and edge vectors for which filters and directions are computed, here all edges."""
        return edges, edge_vectors

    def directed(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return the edges and edge vectors of all pairs in both directions: here as they are."""
        return edges, edge_vectors

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Return filters (E, F) from radial features (E, R), one per block of F rows of the weight."""
        # The gradient of split is a single concatenation, whereas the gradient of slices is a sum of padded arrays.
        return list(torch.split(radial.matmul(weight.t()), channels, dim=-1))

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        messages = filters * values.index_select(0, edges[1])
        return messages.new_zeros(values.shape).index_add(0, edges[0], messages)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        messages = filters.unsqueeze(1) * values.index_select(0, edges[1])
        return messages.new_zeros(values.shape).index_add(0, edges[0], messages)

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """Return sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, D) with u_ji = parity u_ij -> (N, D, F)."""
        messages = directions.unsqueeze(-1) * (filters * values.index_select(0, edges[1])).unsqueeze(1)
        shape = (values.shape[0], directions.shape[1], values.shape[1])
        return messages.new_zeros(shape).index_add(0, edges[0], messages)


class EdgeHalves(EdgeList):
    """Variant of `EdgeList` for edges whose second half repeats the first in the other direction.

    All batches and neighbor lists of piwsl have this order. Filters and directions are computed for the first half, the
    P = E / 2 pairs, which is worthwhile for networks with expensive filters.
    """

    def unique_pairs(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return one edge (2, P) and edge vector (P, 3) per pair."""
        count = edges.shape[1] // 2
        return edges[:, :count], edge_vectors[:count]

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        messages = torch.cat((filters, filters)) * values.index_select(0, edges.flip(0).reshape(-1))
        return messages.new_zeros(values.shape).index_add(0, edges.reshape(-1), messages)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        messages = torch.cat((filters, filters)).unsqueeze(1) * values.index_select(0, edges.flip(0).reshape(-1))
        return messages.new_zeros(values.shape).index_add(0, edges.reshape(-1), messages)

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """Return sum_j (W_ij * x_j) u_ij, values (N, F) and directions (P, D) with u_ji = parity u_ij -> (N, D, F)."""
        weighted = torch.cat((filters, filters)) * values.index_select(0, edges.flip(0).reshape(-1))
        messages = torch.cat((directions, parity * directions)).unsqueeze(-1) * weighted.unsqueeze(1)
        shape = (values.shape[0], directions.shape[1], values.shape[1])
        return messages.new_zeros(shape).index_add(0, edges.reshape(-1), messages)


NeighborSums: TypeAlias = EdgeList | MoleculePairs
"""Objects that compute the sums over neighbors of a network."""


def use_neighbor_sums(network: nn.Module, neighbor_sums: NeighborSums) -> None:
    """Replace the object that computes neighbor sums in all modules of a network. The weights are unchanged.

    `EdgeHalves`, which a network chose itself, are not replaced by a list of all edges.
    """
    for part in network.modules():
        own = getattr(part, "neighbor_sums", None)
        if isinstance(own, EdgeHalves) and type(neighbor_sums) is EdgeList:
            continue
        if isinstance(own, EdgeList | MoleculePairs):
            part.neighbor_sums = neighbor_sums
