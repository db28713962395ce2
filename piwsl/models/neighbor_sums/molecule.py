"""Sums over neighbors of a molecule of fixed size, without gather or scatter operations on the large arrays.

The atoms are arranged on a ring. Pair (k, i) connects atom i with atom i + k (mod n), where k = 1 .. n/2, so each pair
occurs once. Arrays of pairs have the shape (K, n, F), and the second atoms of all pairs form a shifted view of a padded
array of atoms. Compilers convert the sums to loops over whole rows of channels. Only energies and their first
derivatives are available, because the derivatives of the sums are implemented explicitly, as sums of the same kind.

For even n, each pair with k = n/2 occurs twice and has a weight of one half.

R copies of the molecule are R interleaved rings of n atoms. Atom i of copy r is row i R + r, and the second atom of a
pair is shifted by k R rows. With N = n R instead of n, all formulas remain valid, and the copies do not interact.
Arrays of pairs have the shape (K, N, F), and padded arrays of pairs have the shape (K, K R + N, F).
"""

from typing import Any

import torch
from torch import Tensor, nn

from piwsl.typing import Edges, EdgeVectors


class MoleculePairs(nn.Module):
    """Neighbor sums over all pairs within each copy of a molecule.

    The edges of all methods must be the edges that `pair_edges` returns, in the same order.

    Args:
        n_atoms: Number of atoms n of the molecule.
        copies: Number of copies R. Row i R + r of an array of N = n R atoms contains atom i of copy r.
    """

    def __init__(self, n_atoms: int, copies: int = 1) -> None:
        super().__init__()
        self.n_atoms = n_atoms
        self.copies = copies
        self.reach = n_atoms // 2
        self.rows = n_atoms * copies
        self.margin = self.reach * copies
        atoms = torch.arange(-self.margin, self.rows + self.margin) % self.rows
        rows = torch.arange(self.reach).unsqueeze(1) * self.rows + atoms[: self.margin + self.rows]
        halves = torch.ones(self.reach, 1, 1)
        if n_atoms % 2 == 0:
            halves[-1:] = 0.5
        self.register_buffer("padded_atoms", atoms, persistent=False)
        self.register_buffer("padded_pairs", rows.view(-1), persistent=False)
        self.register_buffer("halves", halves, persistent=False)

    padded_atoms: Tensor
    padded_pairs: Tensor
    halves: Tensor

    def pair_edges(self) -> Edges:
        """Return the edges (2, P) of the pairs, from atom i to atom i + k of the same copy."""
        atoms = torch.arange(self.rows, device=self.halves.device)
        steps = torch.arange(1, self.reach + 1, device=self.halves.device).unsqueeze(1) * self.copies
        return torch.stack([atoms.repeat(self.reach), ((atoms + steps) % self.rows).view(-1)])

    def unique_pairs(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return the edges and edge vectors for which filters are computed, here all edges."""
        return edges, edge_vectors

    def directed(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Return the edges and edge vectors of all pairs in both directions, each once."""
        # For even n, the last ring has both directions already.
        count = self.rows * ((self.n_atoms - 1) // 2)
        both = torch.cat((edges, edges[:, :count].flip(0)), dim=1)
        return both, torch.cat((edge_vectors, -edge_vectors[:count]))

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Return filters from radial features (P, R), one per block of F rows of the weight.

        The results are uninitialized handles (K, N, F) that propagate derivatives. The values are the padded filters
        (K, K R + N, F), which are attributes of the handles.
        """
        handles, padded = _Filters.apply(radial, weight, self)  # type: ignore[no-untyped-call]  # torch's
        filters = list(torch.split(handles, channels, dim=-1))
        for handle, values in zip(filters, torch.split(padded, channels, dim=-1), strict=True):
            handle.padded = values  # type: ignore[attr-defined]
        return filters

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        return self.vectors(filters, values.unsqueeze(1), edges).squeeze(1)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Return sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        sums: Tensor = _Vectors.apply(filters, values, _padded(filters), self)  # type: ignore[no-untyped-call]  # torch's
        return sums

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """Return sum_j (W_ij * x_j) u_ij, values (N, F) and directions (P, D) with u_ji = parity u_ij -> (N, D, F)."""
        inputs = (filters, values, directions, parity, _padded(filters), self)
        sums: Tensor = _Outer.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's
        return sums

    def sum_vectors(self, filters: Tensor, padded: Tensor) -> Tensor:
        """Return the result of `vectors` from padded filters and padded atoms (..., D, F)."""
        ahead = self.of_pairs(filters).unsqueeze(2) * self.ahead(padded)
        return torch.addcmul(ahead, self.of_pairs_behind(filters).unsqueeze(2), self.behind(padded)).sum(0)

    def sum_outer(self, filters: Tensor, padded: Tensor, turned: Tensor, parity: float) -> Tensor:
        """Return the result of `outer` from padded filters, atoms (..., F) and directions (K, ..., D, 1)."""
        ahead = (self.of_pairs(filters) * self.ahead(padded)).unsqueeze(2) * self.of_pairs(turned)
        behind = (self.of_pairs_behind(filters) * self.behind(padded)).unsqueeze(2)
        return torch.addcmul(ahead, behind, self.of_pairs_behind(turned), value=parity).sum(0)

    def outer_gradients(
        self, gradient: Tensor, filters: Tensor, values: Tensor, turned: Tensor, parity: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of `outer` with respect to filters (K, N, F), values (N, F) and directions (P, D).

        All arguments are padded.
        """
        of_pairs, own, other = self.of_pairs(filters), self.own(values), self.ahead(values)
        along = self.of_pairs(turned)
        here = add_dot(None, along, self.own(gradient))
        there = parity * add_dot(None, along, self.ahead(gradient))
        of_filters = self.weighted(torch.addcmul(other * here, own, there))
        of_directions = (of_pairs * other).unsqueeze(2) * self.own(gradient)
        back = (of_pairs * own).unsqueeze(2)
        of_directions = torch.addcmul(of_directions, back, self.ahead(gradient), value=parity).sum(-1)
        behind = add_dot(None, self.of_pairs_behind(turned), self.behind(gradient))
        of_values = torch.addcmul(of_pairs * there, self.of_pairs_behind(filters), behind).sum(0)
        return of_filters, of_values, of_directions.flatten(0, 1)

    def forces(self, gradient: Tensor) -> Tensor:
        """Return forces (N, 3) from the derivatives (P, 3) of the energy with respect to the pair vectors."""
        padded = self.pad_pairs(gradient)
        return (self.of_pairs(padded) - self.of_pairs_behind(padded)).sum(0)

    def weighted(self, pairs: Tensor) -> Tensor:
        """Return pairs (K, ..., F) with a factor of one half for pairs that occur twice."""
        return pairs * self.halves.to(pairs.dtype) if self.n_atoms % 2 == 0 else pairs

    def pad(self, atoms: Tensor) -> Tensor:
        """Return atoms (N, ...) padded periodically on both sides, (K R + N + K R, ...)."""
        return atoms.index_select(0, self.padded_atoms)

    def pad_pairs(self, pairs: Tensor) -> Tensor:
        """Return pairs (P, F) padded periodically on one side for each k, (K, K R + N, F)."""
        return pairs.index_select(0, self.padded_pairs).view(self.reach, self.margin + self.rows, -1)

    def own(self, padded: Tensor) -> Tensor:
        """Return the unpadded atoms as a view (N, ...) of padded atoms."""
        return padded[self.margin : self.margin + self.rows]

    def ahead(self, padded: Tensor) -> Tensor:
        """Return atom i + k of each pair (k, i) as a view (K, N, ...) of padded atoms."""
        return self._windows(padded, self.margin + self.copies)

    def behind(self, padded: Tensor) -> Tensor:
        """Return atom i - k for each pair (k, i), as an array (K, N, ...) from padded atoms."""
        return self._windows(padded, 0).flip(0)

    def of_pairs(self, padded: Tensor) -> Tensor:
        """Return pair (k, i) of the atoms i and i + k as a view (K, N, ...) of padded pairs."""
        return padded[:, self.margin :]

    def of_pairs_behind(self, padded: Tensor) -> Tensor:
        """Return pair (k, i - k) of the atoms i - k and i as a view (K, N, ...) of padded pairs."""
        rows, columns, *others = padded.stride()
        start = padded.storage_offset() + (self.margin - self.copies) * columns
        shape = (self.reach, self.rows, *padded.shape[2:])
        return padded.as_strided(shape, (rows - columns * self.copies, columns, *others), start)

    def _windows(self, padded: Tensor, first: int) -> Tensor:
        stride = padded.stride(0)
        shape = (self.reach, self.rows, *padded.shape[1:])
        return padded.as_strided(shape, (stride * self.copies, stride, *padded.stride()[1:]), first * stride)


def _padded(handle: Tensor) -> Tensor:
    values: Tensor = handle.padded  # type: ignore[attr-defined]
    return values


class _Filters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, radial: Tensor, weight: Tensor, pairs: MoleculePairs) -> tuple[Tensor, Tensor]:
        ctx.weight = weight
        # The weights, powers of two, come before the product: AOTInductor (PyTorch 2.12) reads wrong elements through a
        # strided view of a part of an array, unless the array is the result of a matrix product.
        padded = pairs.weighted(pairs.pad_pairs(radial)).matmul(weight.t())
        ctx.pairs = pairs
        ctx.mark_non_differentiable(padded)
        return padded.new_empty((pairs.reach, pairs.rows, weight.shape[0])), padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # This order of the factors halves the time of the product.
        return ctx.weight.t().contiguous().mm(gradients[0].flatten(0, 1).t()).t(), None, None


def add_dot(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Add the scalar products of vectors (..., D, F) to a total (..., F), with a loop that is faster for small D."""
    for direction in range(left.shape[-2]):
        factors = left.select(-2, direction), right.select(-2, direction)
        total = factors[0] * factors[1] if total is None else torch.addcmul(total, *factors)
    assert total is not None
    return total


class _Vectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, handle: Tensor, values: Tensor, filters: Tensor, pairs: MoleculePairs) -> Tensor:
        padded = pairs.pad(values)
        ctx.save_for_backward(padded, filters)
        ctx.pairs = pairs
        return pairs.sum_vectors(filters, padded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (padded, filters), pairs, gradient = ctx.saved_tensors, ctx.pairs, ctx.pairs.pad(gradients[0])
        of_filters = add_dot(None, pairs.own(gradient), pairs.ahead(padded))
        of_filters = pairs.weighted(add_dot(of_filters, pairs.own(padded), pairs.ahead(gradient)))
        return of_filters, pairs.sum_vectors(filters, gradient), None, None


class _Outer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        handle: Tensor,
        values: Tensor,
        directions: Tensor,
        parity: float,
        filters: Tensor,
        pairs: MoleculePairs,
    ) -> Tensor:
        turned = pairs.pad_pairs(directions).unsqueeze(3)
        padded = pairs.pad(values)
        ctx.save_for_backward(padded, filters, turned)
        ctx.pairs, ctx.parity = pairs, parity
        return pairs.sum_outer(filters, padded, turned, parity)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (values, filters, turned), pairs = ctx.saved_tensors, ctx.pairs
        results = pairs.outer_gradients(pairs.pad(gradients[0]), filters, values, turned, ctx.parity)
        return *results, None, None, None


class MoleculeCopies(MoleculePairs):
    """Variant of `MoleculePairs` with another order of operations, which is faster for several copies."""

    def sum_vectors(self, filters: Tensor, padded: Tensor) -> Tensor:
        """Return the result of `vectors` from padded filters and padded atoms (..., D, F)."""
        of_pairs, ahead, before = self.of_pairs(filters), self.ahead(padded), self._before(padded)
        sums = [
            (of_pairs * ahead.select(-2, d)).sum(0) + self.of_pairs_behind(filters * before.select(-2, d)).sum(0)
            for d in range(padded.shape[1])
        ]
        return torch.stack(sums, dim=1)

    def sum_outer(self, filters: Tensor, padded: Tensor, turned: Tensor, parity: float) -> Tensor:
        """Return the result of `outer` from padded filters, atoms (..., F) and directions (K, ..., D, 1)."""
        # For each atom, a matrix product of directions (D, K) and neighbors (K, F).
        ahead = self.of_pairs(filters) * self.ahead(padded)
        behind = self.of_pairs_behind(filters * self._before(padded))
        along, against = _directions(self.of_pairs(turned)), _directions(self.of_pairs_behind(turned))
        sums = torch.bmm(along, ahead.transpose(0, 1))
        return torch.baddbmm(sums, against, behind.transpose(0, 1), alpha=parity)

    def outer_gradients(
        self, gradient: Tensor, filters: Tensor, values: Tensor, turned: Tensor, parity: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of `outer` with respect to filters (K, N, F), values (N, F) and directions (P, D).

        All arguments are padded.
        """
        of_pairs, own, other = self.of_pairs(filters), self.own(values), self.ahead(values)
        own_gradient, other_gradient = self.own(gradient), self.ahead(gradient)
        along = add_dot(None, turned, self._before(gradient))
        here = self.of_pairs(along)
        there = parity * add_dot(None, self.of_pairs(turned), other_gradient)
        of_filters = self.weighted(torch.addcmul(other * here, own, there))
        of_values = of_pairs * there
        of_values = torch.addcmul(of_values, self.of_pairs_behind(filters), self.of_pairs_behind(along)).sum(0)
        forth, back = of_pairs * other, parity * of_pairs * own
        of_directions = [
            torch.addcmul(forth * own_gradient.select(-2, d), back, other_gradient.select(-2, d)).sum(-1)
            for d in range(turned.shape[2])
        ]
        return of_filters, of_values, torch.stack(of_directions, dim=-1).flatten(0, 1)

    def _before(self, padded: Tensor) -> Tensor:
        """Return the first atom of each padded pair, (K R + N, ...)."""
        return padded[: self.margin + self.rows]


def _directions(turned: Tensor) -> Tensor:
    """Return directions (K, N, D, 1) of pairs as matrices (N, D, K)."""
    return turned.squeeze(-1).permute(1, 2, 0).contiguous()
