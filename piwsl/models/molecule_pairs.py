"""Sums over neighbours of one molecule of fixed size: each pair once, no gather or scatter in the large arrays.

Atoms are thought of on a ring. Pair (k, i) joins atom i with atom i + k (mod n), k = 1 .. n/2, so arrays of pairs are
(K, n, F) and "the other atom of each pair" is a shifted view of a padded array of atoms. Compilers turn the sums
into loops over whole rows of channels. Only energies and first derivatives can be asked: the derivatives
of the sums are written out, and they are sums of the same kind.

Where n is even, k = n/2 holds each pair twice, and each counts half.
"""

from typing import Any

import torch
from torch import Tensor, nn

from piwsl.typing import Edges, EdgeVectors


class MoleculePairs(nn.Module):
    """Neighbour sums over all pairs of ``n_atoms`` atoms; the edges are those of `pair_edges`, in that order."""

    def __init__(self, n_atoms: int) -> None:
        super().__init__()
        self.n_atoms = n_atoms
        self.reach = n_atoms // 2
        atoms = torch.arange(-self.reach, n_atoms + self.reach) % n_atoms
        rows = torch.arange(self.reach).unsqueeze(1) * n_atoms + atoms[: self.reach + n_atoms]
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
        """Edges (2, P) of the pairs: atom i, atom i + k."""
        atoms = torch.arange(self.n_atoms, device=self.halves.device)
        steps = torch.arange(1, self.reach + 1, device=self.halves.device).unsqueeze(1)
        return torch.stack([atoms.repeat(self.reach), ((atoms + steps) % self.n_atoms).view(-1)])

    def distinct(self, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Edges, EdgeVectors]:
        """Edges and edge vectors for which filters and directions are made: each pair is there once already."""
        return edges, edge_vectors

    def filters(self, radial: Tensor, weight: Tensor, channels: int) -> list[Tensor]:
        """Filters from radial features (P, R) for each F rows of a weight.

        What a caller gets are handles (P, F) without content, through which derivatives flow; the filters themselves
        lie beside them, padded: (K, K + n, F).
        """
        handles, padded = _Filters.apply(radial, weight, self)  # type: ignore[no-untyped-call]  # torch's
        found = list(torch.split(handles, channels, dim=-1))
        for handle, values in zip(found, torch.split(padded, channels, dim=-1), strict=True):
            handle.padded = values  # type: ignore[attr-defined]
        return found

    def scalars(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * x_j, values (N, F) -> (N, F)."""
        return self.vectors(filters, values.unsqueeze(1), edges).squeeze(1)

    def vectors(self, filters: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """sum_j W_ij * v_j, values (N, D, F) -> (N, D, F)."""
        sums: Tensor = _Vectors.apply(filters, values, _padded(filters), self)  # type: ignore[no-untyped-call]  # torch's
        return sums

    def outer(self, filters: Tensor, values: Tensor, directions: Tensor, parity: float, edges: Edges) -> Tensor:
        """sum_j (W_ij * x_j) u_ij, values (N, F) and directions (P, D) with u_ji = parity u_ij -> (N, D, F)."""
        inputs = (filters, values, directions, parity, _padded(filters), self)
        sums: Tensor = _Outer.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's
        return sums

    def forces(self, gradient: Tensor) -> Tensor:
        """Forces (N, 3) from the derivative of the energy by each pair's vector (P, 3)."""
        padded = gradient[self.padded_pairs].view(self.reach, self.reach + self.n_atoms, 3)
        return (self.of_pairs(padded) - self.of_pairs_behind(padded)).sum(0)

    def weighted(self, pairs: Tensor) -> Tensor:
        """Pairs (K, ..., F), those that are there twice counting half."""
        return pairs * self.halves.to(pairs.dtype) if self.n_atoms % 2 == 0 else pairs

    def pad(self, atoms: Tensor) -> Tensor:
        """Atoms (N, ...) continued around the ring on both sides, (K + N + K, ...)."""
        return atoms[self.padded_atoms]

    def ahead(self, padded: Tensor) -> Tensor:
        """Atom i + k for each pair (k, i): a view (K, N, ...)."""
        return self._windows(padded, self.reach + 1)

    def behind(self, padded: Tensor) -> Tensor:
        """Atom i - k for each pair (k, i), (K, N, ...)."""
        return self._windows(padded, 0).flip(0)

    def of_pairs(self, padded: Tensor) -> Tensor:
        """Pair (k, i), that of atom i with atom i + k: a view (K, N, F) of padded pairs (K, K + N, F)."""
        return padded[:, self.reach :]

    def of_pairs_behind(self, padded: Tensor) -> Tensor:
        """Pair (k, i - k), that of atom i - k with atom i: a view (K, N, F) of padded pairs (K, K + N, F)."""
        rows, columns = padded.stride(0), padded.stride(1)
        start = padded.storage_offset() + (self.reach - 1) * columns
        shape = (self.reach, self.n_atoms, padded.shape[2])
        return padded.as_strided(shape, (rows - columns, columns, padded.stride(2)), start)

    def _windows(self, padded: Tensor, first: int) -> Tensor:
        stride = padded.stride(0)
        shape = (self.reach, self.n_atoms, *padded.shape[1:])
        return padded.as_strided(shape, (stride, stride, *padded.stride()[1:]), first * stride)


def _padded(handle: Tensor) -> Tensor:
    values: Tensor = handle.padded  # type: ignore[attr-defined]
    return values


class _Filters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, radial: Tensor, weight: Tensor, pairs: MoleculePairs) -> tuple[Tensor, Tensor]:
        ctx.weight = weight
        padded = radial[pairs.padded_pairs].matmul(weight.t())
        padded = pairs.weighted(padded.view(pairs.reach, pairs.reach + pairs.n_atoms, weight.shape[0]))
        ctx.pairs = pairs
        ctx.mark_non_differentiable(padded)
        return padded.new_empty((radial.shape[0], weight.shape[0])), padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The other way round this product takes half as long.
        return ctx.weight.t().contiguous().mm(gradients[0].t()).t(), None, None


def _sums(pairs: MoleculePairs, filters: Tensor, values: Tensor) -> Tensor:
    padded = pairs.pad(values)
    ahead = pairs.of_pairs(filters).unsqueeze(2) * pairs.ahead(padded)
    return (ahead + pairs.of_pairs_behind(filters).unsqueeze(2) * pairs.behind(padded)).sum(0)


class _Vectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, handle: Tensor, values: Tensor, filters: Tensor, pairs: MoleculePairs) -> Tensor:
        ctx.save_for_backward(values, filters)
        ctx.pairs = pairs
        return _sums(pairs, filters, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (values, filters), pairs, gradient = ctx.saved_tensors, ctx.pairs, gradients[0]
        other, other_gradient = pairs.ahead(pairs.pad(values)), pairs.ahead(pairs.pad(gradient))
        of_filters = pairs.weighted((gradient * other + other_gradient * values).sum(2))
        return of_filters.flatten(0, 1), _sums(pairs, filters, gradient), None, None


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
        turned = directions[pairs.padded_pairs].view(pairs.reach, pairs.reach + pairs.n_atoms, -1)
        ctx.save_for_backward(values, directions, filters, turned)
        ctx.pairs, ctx.parity = pairs, parity
        padded = pairs.pad(values)
        ahead = (pairs.of_pairs(filters) * pairs.ahead(padded)).unsqueeze(2) * pairs.of_pairs(turned).unsqueeze(3)
        behind = (pairs.of_pairs_behind(filters) * pairs.behind(padded)).unsqueeze(2)
        return (ahead + behind * (parity * pairs.of_pairs_behind(turned)).unsqueeze(3)).sum(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (values, directions, filters, turned), pairs, parity = ctx.saved_tensors, ctx.pairs, ctx.parity
        gradient, padded = gradients[0], pairs.pad(gradients[0])
        own, other = pairs.of_pairs(filters), pairs.ahead(pairs.pad(values))
        along = directions.view(pairs.reach, pairs.n_atoms, -1, 1)
        here, there = (along * gradient).sum(2), parity * (along * pairs.ahead(padded)).sum(2)
        of_filters = pairs.weighted(other * here + values * there)
        of_directions = (own * other).unsqueeze(2) * gradient
        of_directions = of_directions + parity * (own * values).unsqueeze(2) * pairs.ahead(padded)
        behind = (pairs.of_pairs_behind(turned).unsqueeze(3) * pairs.behind(padded)).sum(2)
        of_values = (own * there + pairs.of_pairs_behind(filters) * behind).sum(0)
        return of_filters.flatten(0, 1), of_values, of_directions.sum(-1).flatten(0, 1), None, None, None
