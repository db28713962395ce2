"""Sums over neighbours, in two forms that give the same result.

A network holds one of these objects and never looks at the edges itself. `EdgeList` serves any batch of graphs;
`AllPairs` serves equal-sized molecules whose edges are all n x n pairs in order (centre-major, self pairs moved
beyond the cutoff by their shift) and needs neither gather nor scatter.

Filters are one row an edge, (E, F); atoms carry scalars (N, F) or vectors (N, 3, F).
"""

from torch import Tensor, nn

from piwsl.typing import Edges, EdgeVectors


class EdgeList(nn.Module):
    """Neighbour sums over any list of edges."""

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        return values.new_zeros(values.shape).index_add(0, edges[0], filters * values.index_select(0, edges[1]))

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, 3, F) -> (N, 3, F)."""
        messages = filters.unsqueeze(1) * values.index_select(0, edges[1])
        return values.new_zeros(values.shape).index_add(0, edges[0], messages)

    def outer(self, filters: Tensor, values: Tensor, directions: EdgeVectors, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, 3) -> (N, 3, F)."""
        messages = directions.unsqueeze(-1) * (filters * values.index_select(0, edges[1])).unsqueeze(1)
        return values.new_zeros((values.shape[0], 3, values.shape[1])).index_add(0, edges[0], messages)


class AllPairs(nn.Module):
    """Neighbour sums over all pairs of molecules of ``n_atoms`` atoms each, as dense blocks."""

    def __init__(self, n_atoms: int) -> None:
        super().__init__()
        self.n_atoms = n_atoms

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        n, width = self.n_atoms, values.shape[1]
        products = filters.view(-1, n, n, width) * values.view(-1, 1, n, width)
        return products.sum(2).view(-1, width)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, 3, F) -> (N, 3, F)."""
        n, width = self.n_atoms, values.shape[2]
        products = filters.view(-1, n, n, 1, width) * values.view(-1, 1, n, 3, width)
        return products.sum(2).view(-1, 3, width)

    def outer(self, filters: Tensor, values: Tensor, directions: EdgeVectors, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (E, 3) -> (N, 3, F)."""
        n, width = self.n_atoms, values.shape[1]
        products = filters.view(-1, n, n, width) * values.view(-1, 1, n, width)
        return directions.view(-1, n, 3).transpose(1, 2).matmul(products.view(-1, n, width)).view(-1, 3, width)
