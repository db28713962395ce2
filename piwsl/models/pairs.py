"""Sums over neighbours, in two forms that give the same result.

A network holds one of these objects and never looks at the edges itself. `EdgeList` serves any batch of graphs;
`AllPairs` serves equal-sized molecules whose edges are all n x n pairs in order (centre-major, self pairs moved
beyond the cutoff by their shift) and needs neither gather nor scatter.

Filters are one row an edge, (E, F); atoms carry scalars (N, F), or vectors and tensors of D components (N, D, F).
"""

import torch
from torch import Tensor, nn

from piwsl.typing import Edges, EdgeVectors


class EdgeList(nn.Module):
    """Neighbour sums over any list of edges."""

    def distinct(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
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


class AllPairs(nn.Module):
    """Neighbour sums over all pairs of molecules of ``n_atoms`` atoms each, as dense blocks."""

    def __init__(self, n_atoms: int) -> None:
        super().__init__()
        self.n_atoms = n_atoms

    def distinct(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Edges and edge vectors for which filters and directions are made: here all of them."""
        return edges, edge_vectors

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Filters (E, F) from radial features (E, R) for each F rows of a weight."""
        return list(torch.split(radial.matmul(weight.t()), channels, dim=-1))

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        n, width = self.n_atoms, values.shape[1]
        products = filters.view(-1, n, n, width) * values.view(-1, 1, n, width)
        return products.sum(2).view(-1, width)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        n, components, width = self.n_atoms, values.shape[1], values.shape[2]
        # One n x n by n x D product for each channel: nothing of size E x D x F is ever made.
        left = filters.view(-1, n, n, width).permute(0, 3, 1, 2)
        right = values.view(-1, n, components, width).permute(0, 3, 1, 2)
        return left.matmul(right).permute(0, 2, 3, 1).reshape(-1, components, width)

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, D) with u_ji = parity u_ij -> (N, D, F)."""
        n, components, width = self.n_atoms, directions.shape[1], values.shape[1]
        products = filters.view(-1, n, n, width) * values.view(-1, 1, n, width)
        # Blocks that are neither contiguous nor a transpose would be multiplied one by one.
        left = directions.contiguous().view(-1, n, components).transpose(1, 2)
        return left.matmul(products.view(-1, n, width)).view(-1, components, width)


def use_pairs(network: nn.Module, pairs: EdgeList | AllPairs) -> None:
    """Let all parts of a network take their sums over neighbours in another way; the weights stay."""
    for part in network.modules():
        if isinstance(getattr(part, "pairs", None), EdgeList | AllPairs):
            part.pairs = pairs
