"""Symmetric products of spherical tensors: a basis for all equivariant polynomials of one tensor.

The tensor has the degrees 0 to l, each with natural parity. A product of order n and degree L is a homogeneous
polynomial of order n in the components and transforms like a spherical harmonic of degree L. The atomic cluster
expansion uses such products (Drautz, PRB 99, 014104, 2019; Dusson et al., J. Comput. Phys. 454, 110946, 2022). The
factors are equal, so only the symmetric part of the coupling coefficients contributes. The basis contains each
independent symmetric product once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, pairwise

import torch
from torch import Tensor, nn

from piwsl.models.networks.spherical import coupling


@dataclass(frozen=True, eq=False)
class ProductBasis:
    """Basis of all products with one order and degree.

    Attributes:
        monomials: Components (M, n) of each monomial, in ascending order.
        coefficients: Coefficients (2 L + 1, M, K) of K orthonormal products, float64.
    """

    monomials: Tensor
    coefficients: Tensor


@lru_cache(maxsize=64)
def product_basis(largest: int, order: int, degree: int) -> ProductBasis:
    """Return a basis of all products with the given order and degree.

    Args:
        largest: Largest degree of the factors.
        order: Number of factors n.
        degree: Degree L of the products.
    """
    monomials: dict[tuple[int, ...], int] = {}
    found: list[tuple[list[int], Tensor]] = []
    for degrees in combinations_with_replacement(range(largest + 1), order):
        if (sum(degrees) + degree) % 2 == 0:
            for places, values in _products(degrees, degree, monomials):
                found.append((places, values))
    coefficients = torch.zeros(2 * degree + 1, len(monomials), len(found), dtype=torch.float64)
    for number, (places, values) in enumerate(found):
        coefficients[:, places, number] = values
    return ProductBasis(torch.tensor(list(monomials)).reshape(len(monomials), order), coefficients)


def _products(
    degrees: tuple[int, ...], degree: int, monomials: dict[tuple[int, ...], int]
) -> list[tuple[list[int], Tensor]]:
    """Return the independent products of factors with these degrees, and add new monomials to the dictionary."""
    shape = [2 * one + 1 for one in degrees]
    starts = [one * one for one in degrees]
    grid = torch.cartesian_prod(*(torch.arange(size) for size in shape)).reshape(-1, len(shape))
    components = (grid + torch.tensor(starts)).sort(1).values
    unique, inverse = torch.unique(components, dim=0, return_inverse=True)
    basis: list[Tensor] = []
    for coefficients in _couplings(degrees, degree):
        flat = coefficients.reshape(2 * degree + 1, -1)
        product = torch.zeros(2 * degree + 1, len(unique), dtype=torch.float64).index_add(1, inverse, flat)
        # Two passes are sufficient for orthogonality (Kahan).
        for _ in range(2):
            for other in basis:
                product = product - (product * other).sum() * other
        norm = torch.linalg.vector_norm(product)
        if norm > 1e-8:
            basis.append(product / norm)
    if not basis:
        return []
    places = [monomials.setdefault(tuple(row), len(monomials)) for row in unique.tolist()]
    return [(places, product) for product in basis]


def _couplings(degrees: tuple[int, ...], degree: int) -> list[Tensor]:
    """Return all couplings of the factors, from left to right, to a degree, (2 L + 1, 2 l_1 + 1, ..., 2 l_n + 1)."""
    partial = {degrees[0]: [torch.eye(2 * degrees[0] + 1, dtype=torch.float64)]}
    for position, right in enumerate(degrees[1:], start=2):
        last = position == len(degrees)
        following: dict[int, list[Tensor]] = {}
        for left, tensors in partial.items():
            for result in range(abs(left - right), left + right + 1):
                if last and result != degree:
                    continue
                values = coupling(left, right, result)
                products = [torch.einsum("i...,ijk->k...j", tensor, values) for tensor in tensors]
                following.setdefault(result, []).extend(products)
        partial = following
    return partial.get(degree, [])


class SymmetricProducts(nn.Module):
    """Weighted sums of all products up to an order, with weights for each element.

    Args:
        largest: Largest degree of the factors.
        degrees: Degrees of the results.
        order: Largest number of factors.
        channels: Number of channels. Each channel is multiplied only with itself.
        elements: Number of elements.
    """

    matrix: Tensor
    first: Tensor
    second: Tensor
    last: Tensor

    def __init__(self, largest: int, degrees: tuple[int, ...], order: int, channels: int, elements: int) -> None:
        super().__init__()
        self.sizes = [2 * degree + 1 for degree in degrees]
        self.order = order
        bases = {(n, degree): product_basis(largest, n, degree) for n in range(1, order + 1) for degree in degrees}
        self.counts = [sum(bases[n, degree].coefficients.shape[2] for n in range(1, order + 1)) for degree in degrees]
        lists = self._monomials(bases, degrees)
        place = {monomial: number for number, monomial in enumerate(one for some in lists for one in some)}
        rows: list[Tensor] = []
        for degree in degrees:
            # The rows of a degree contain the products of order 1, 2, ... for each component.
            block = torch.zeros(2 * degree + 1, self.counts[len(rows)], len(place), dtype=torch.float64)
            start = 0
            for n in range(1, order + 1):
                basis = bases[n, degree]
                columns = [place[tuple(monomial)] for monomial in basis.monomials.tolist()]
                stop = start + basis.coefficients.shape[2]
                block[:, start:stop, columns] = basis.coefficients.transpose(1, 2)
                start = stop
            rows.append(block.flatten(0, 1))
        matrix = torch.cat(rows)
        self.nested = False
        self._nest(matrix[:, -len(lists[-1]) :], lists)
        if self.nested:
            matrix, lists = matrix[:, : -len(lists[-1])], lists[:-1]
        self.register_buffer("matrix", matrix.contiguous(), persistent=False)
        self._register_factors(lists)
        self.weights = nn.Parameter(torch.randn(elements, sum(self.counts), channels) / math.sqrt(max(1, *self.counts)))

    def _monomials(
        self, bases: dict[tuple[int, int], ProductBasis], degrees: tuple[int, ...]
    ) -> list[list[tuple[int, ...]]]:
        """Return the required monomials of each order. Each one is a monomial of the order below times a factor."""
        lists: list[list[tuple[int, ...]]] = []
        above: set[tuple[int, ...]] = set()
        for n in range(self.order, 0, -1):
            own = {tuple(row) for degree in degrees for row in bases[n, degree].monomials.tolist()}
            needed = sorted(own | above)
            lists.insert(0, needed)
            above = {monomial[:-1] for monomial in needed}
        return lists

    def _nest(self, matrix: Tensor, lists: list[list[tuple[int, ...]]]) -> None:
        """Choose the method that sums products of the highest order, and register its buffers.

        For few products, a matrix product for each component of the last factor is faster than computing all monomials.

        Args:
            matrix: Coefficients (rows, monomials) of the highest order.
            lists: Monomials of each order.
        """
        rows = torch.nonzero(matrix.abs().sum(1) > 0).squeeze(1)
        components = len(lists[0]) if len(lists) > 1 else 0
        self.nested = 0 < 2 * len(rows) * components <= len(lists[-1])
        below = {monomial: number for number, monomial in enumerate(lists[-2])} if self.nested else {}
        nested = torch.zeros(len(rows), components, len(below), dtype=torch.float64)
        place = {monomial[0]: number for number, monomial in enumerate(lists[0])}
        for number, monomial in enumerate(lists[-1] if self.nested else []):
            nested[:, place[monomial[-1]], below[monomial[:-1]]] = matrix[rows, number]
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("nested_matrix", nested.flatten(0, 1), persistent=False)

    rows: Tensor
    nested_matrix: Tensor

    def _register_factors(self, lists: list[list[tuple[int, ...]]]) -> None:
        components = torch.tensor([monomial[0] for monomial in lists[0]])
        self.register_buffer("first", components, persistent=False)
        self.lengths = [len(some) for some in lists[1:]]
        self.widths = [len(some) for some in lists]
        left, right = [], []
        for below, some in pairwise(lists):
            known = {monomial: number for number, monomial in enumerate(below)}
            left += [known[monomial[:-1]] for monomial in some]
            right += [monomial[-1] for monomial in some]
        self.register_buffer("second", torch.tensor(left, dtype=torch.int64), persistent=False)
        self.register_buffer("last", torch.tensor(right, dtype=torch.int64), persistent=False)

    def forward(self, tensors: Tensor, element: Tensor) -> Tensor:
        """Map tensors (N, (largest + 1)^2, C) and element indices (N,) to sums (N, sum (2 L + 1), C)."""
        below = tensors.index_select(1, self.first)
        # Each order has its own matrix product, because joining the monomials would copy them.
        matrices = self.matrix.to(tensors.dtype).split(self.widths, dim=1)
        products = torch.matmul(matrices[0], below)
        left, right = self.second.split(self.lengths), self.last.split(self.lengths)
        for number, first in enumerate(left):
            below = below.index_select(1, first) * tensors.index_select(1, right[number])
            products = products + torch.matmul(matrices[number + 1], below)
        if self.nested:
            inner = torch.matmul(self.nested_matrix.to(tensors.dtype), below)
            inner = inner.view(tensors.shape[0], self.rows.shape[0], -1, tensors.shape[2])
            highest = (inner * tensors.index_select(1, self.first).unsqueeze(1)).sum(2)
            products = products.index_add(1, self.rows, highest)
        weights = self.weights.index_select(0, element).split(self.counts, dim=1)
        results: list[Tensor] = []
        start = 0
        for number, size in enumerate(self.sizes):
            count = self.counts[number]
            some = products[:, start : start + size * count].view(-1, size, count, tensors.shape[2])
            results.append((some * weights[number].unsqueeze(1)).sum(2))
            start += size * count
        return torch.cat(results, dim=1)
