"""Sums over neighbors as loops compiled by numba, without arrays of size pairs x components x channels.

All sums are represented by two multilinear forms over the pairs p = (i, j) of a graph, with channels f and components
c. Each pair occurs once:

    T(g, W, x)    = sum_p sum_cf  W[p,f] (g[i,c,f] x[j,c,f] + g[j,c,f] x[i,c,f])
    Q(g, u, W, x) = sum_p sum_cf  u[p,c] W[p,f] (g[i,c,f] x[j,f] + s g[j,c,f] x[i,f])

Here, s is the parity of u: the direction from j to i equals s times the direction from i to j. A sum over neighbors is
the derivative of a form with respect to g.

This module requires numba.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from piwsl.models.multilinear import array_of, contract, loop
from piwsl.models.neighbor_sums.edge_list import EdgeList
from piwsl.typing import Edges, EdgeVectors

# The loops have no type annotations, because numba compiles a version for each combination of argument types.


@loop
def _sum_products(first, second, filters, values, out):  # type: ignore[no-untyped-def]
    """Add W[p] x[j,c] to out[i,c], and W[p] x[i,c] to out[j,c]."""
    width = filters.shape[1]
    for p in range(filters.shape[0]):
        w = filters[p]
        i, j = first[p], second[p]
        for c in range(values.shape[1]):
            o, x = out[i, c], values[j, c]
            for f in range(width):
                o[f] += w[f] * x[f]
            o, x = out[j, c], values[i, c]
            for f in range(width):
                o[f] += w[f] * x[f]


@loop
def _pair_products(first, second, left, right, out):  # type: ignore[no-untyped-def]
    """Set out[p] to sum_c g[i,c] x[j,c] + g[j,c] x[i,c]."""
    width = out.shape[1]
    for p in range(out.shape[0]):
        o = out[p]
        i, j = first[p], second[p]
        for c in range(left.shape[1]):
            g, x = left[i, c], right[j, c]
            h, y = left[j, c], right[i, c]
            if c == 0:
                for f in range(width):
                    o[f] = g[f] * x[f] + h[f] * y[f]
            else:
                for f in range(width):
                    o[f] += g[f] * x[f] + h[f] * y[f]


@loop
def _sum_outer(first, second, directions, filters, values, parity, out):  # type: ignore[no-untyped-def]
    """Add u[p,c] W[p] x[j] to out[i,c], and s u[p,c] W[p] x[i] to out[j,c]."""
    width = filters.shape[1]
    for p in range(filters.shape[0]):
        i, j = first[p], second[p]
        w, x, y = filters[p], values[j], values[i]
        for c in range(directions.shape[1]):
            u, o = directions[p, c], out[i, c]
            for f in range(width):
                o[f] += u * w[f] * x[f]
            u, o = parity * u, out[j, c]
            for f in range(width):
                o[f] += u * w[f] * y[f]


@loop
def _sum_inner(first, second, left, directions, filters, parity, out):  # type: ignore[no-untyped-def]
    """Add W[p] sum_c u[p,c] g[i,c] to out[j], and s W[p] sum_c u[p,c] g[j,c] to out[i]."""
    width = filters.shape[1]
    for p in range(filters.shape[0]):
        i, j = first[p], second[p]
        w = filters[p]
        for c in range(directions.shape[1]):
            u, o, g = directions[p, c], out[j], left[i, c]
            for f in range(width):
                o[f] += u * w[f] * g[f]
            u, o, g = parity * u, out[i], left[j, c]
            for f in range(width):
                o[f] += u * w[f] * g[f]


@loop
def _pair_inner(first, second, left, directions, values, parity, out):  # type: ignore[no-untyped-def]
    """Set out[p] to sum_c u[p,c] (g[i,c] x[j] + s g[j,c] x[i])."""
    width = out.shape[1]
    for p in range(out.shape[0]):
        i, j = first[p], second[p]
        o, x, y = out[p], values[j], values[i]
        for c in range(directions.shape[1]):
            u, g, h = directions[p, c], left[i, c], left[j, c]
            v = parity * u
            if c == 0:
                for f in range(width):
                    o[f] = u * g[f] * x[f] + v * h[f] * y[f]
            else:
                for f in range(width):
                    o[f] += u * g[f] * x[f] + v * h[f] * y[f]


@loop
def _pair_sums(first, second, left, filters, values, parity, out):  # type: ignore[no-untyped-def]
    """Set out[p,c] to sum_f W[p,f] (x[j,f] g[i,c,f] + s x[i,f] g[j,c,f])."""
    width = filters.shape[1]
    for p in range(out.shape[0]):
        w, x, y = filters[p], values[second[p]], values[first[p]]
        for c in range(left.shape[1]):
            g, h = left[first[p], c], left[second[p], c]
            there, back = x[0] * 0, x[0] * 0
            for f in range(width):
                there += w[f] * x[f] * g[f]
                back += w[f] * y[f] * h[f]
            out[p, c] = there + parity * back


@dataclass(frozen=True, eq=False)
class Trilinear:
    """Form T(g, W, x) with g and x (N, C, F) and W (P, F).

    Attributes:
        pairs: Pairs (2, P) of the graph.
    """

    pairs: Edges

    def derivative(self, slot: int, arguments: list[Any]) -> Tensor:
        """Return the derivative with respect to argument number ``slot``."""
        left: Tensor
        filters: Tensor
        values: Tensor
        left, filters, values = arguments
        first, second = array_of(self.pairs[0]), array_of(self.pairs[1])
        if slot == 1:
            out = left.new_empty((self.pairs.shape[1], left.shape[2]))
            _pair_products(first, second, array_of(left), array_of(values), out.numpy())
            return out
        given = values if slot == 0 else left  # the form is symmetric in g and x
        out = torch.zeros_like(given, memory_format=torch.contiguous_format)
        _sum_products(first, second, array_of(filters), array_of(given), out.numpy())
        return out


@dataclass(frozen=True, eq=False)
class Quadrilinear:
    """Form Q(g, u, W, x) with g (N, C, F), u (P, C), W (P, F) and x (N, F).

    Attributes:
        pairs: Pairs (2, P) of the graph.
        parity: Parity s of u.
    """

    pairs: Edges
    parity: float

    def derivative(self, slot: int, arguments: list[Any]) -> Tensor:
        """Return the derivative with respect to argument number ``slot``."""
        arrays: list[Any] = [None if argument is None else array_of(argument) for argument in arguments]
        left, directions, filters, values = arrays
        given: Tensor = arguments[3 if slot != 3 else 2]
        first, second = array_of(self.pairs[0]), array_of(self.pairs[1])
        parity = array_of(given.new_tensor(self.parity))[()]
        if slot == 0:
            out = given.new_zeros((given.shape[0], directions.shape[1], given.shape[1]))
            _sum_outer(first, second, directions, filters, values, parity, out.numpy())
        elif slot == 1:
            out = given.new_empty((self.pairs.shape[1], left.shape[1]))
            _pair_sums(first, second, left, filters, values, parity, out.numpy())
        elif slot == 2:
            out = given.new_empty((self.pairs.shape[1], given.shape[1]))
            _pair_inner(first, second, left, directions, values, parity, out.numpy())
        else:
            out = given.new_zeros((left.shape[0], left.shape[2]))
            _sum_inner(first, second, left, directions, filters, parity, out.numpy())
        return out


class FusedEdgeList(EdgeList):
    """Neighbor sums as compiled loops over the P = E / 2 pairs, for eager mode on CPUs.

    The edges must have the order of a `Batch`, in which the second half contains the reversed edges of the first half.
    Filters and directions are computed only for the first half. All floating-point arrays must have the same type,
    float32 or float64.
    """

    def unique_pairs(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return one edge (2, P) and edge vector (P, 3) per pair."""
        count = edges.shape[1] // 2
        return edges[:, :count], edge_vectors[:count]

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Return contiguous filters (P, F) from radial features (P, R), one per block of F rows of the weight."""
        return [radial.matmul(part.t()) for part in torch.split(weight, channels)]

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        return self.vectors(filters, values.unsqueeze(1), edges).squeeze(1)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        return contract(Trilinear(edges), 0, [None, filters, values])

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """Return sum_j (W_ij * x_j) u_ij, values (N, F) and directions (P, D) with u_ji = parity u_ij -> (N, D, F)."""
        return contract(Quadrilinear(edges, parity), 0, [None, directions, filters, values])
