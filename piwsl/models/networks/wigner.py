"""Rotation matrices of spherical harmonics for the frames of edges.

The third axis of the frame is the edge itself. No choice of the two other axes is continuous for all directions, and
none is needed: all operations in the frame commute with rotations about the edge (`so2.py`), so the frames of two
charts give equal results. Each chart covers a half space and is smooth far beyond its border.

The matrix of degree l follows from the matrix of degree l - 1 by coupling with degree 1. Its elements are polynomials
of the elements of the 3 x 3 matrix. No angles occur, and derivatives of any order exist.
"""

import math

import torch
from torch import Tensor, nn

from piwsl.models.networks.spherical import coupling


def orders_by_degree(l_max: int) -> list[tuple[int, int]]:
    """Return the degree and order (l, m) of each coefficient of an atom."""
    return [(degree, order) for degree in range(l_max + 1) for order in range(-degree, degree + 1)]


def orders_by_order(l_max: int, m_max: int) -> list[tuple[int, int]]:
    """Return the degree and order (l, m) of each coefficient in the frame of an edge, for |m| up to ``m_max``.

    The coefficients with m = 0 come first. Cosines (m) and sines (-m) follow for each m. Each group ascends in degree.
    """
    signed = [0] + [sign * order for order in range(1, m_max + 1) for sign in (1, -1)]
    return [(degree, order) for order in signed for degree in range(abs(order), l_max + 1)]


def edge_frames(directions: Tensor) -> Tensor:
    """Return rotation matrices (E, 3, 3) that turn unit vectors (E, 3) to the z axis. The third row is the vector.

    For z >= 0, the unit quaternion of the rotation is (1 + z, y, -x, 0) / sqrt(2 + 2 z), with an axis in the xy plane.
    For z < 0, a half turn about x precedes such a rotation. The square root cancels in the matrix.
    """
    x, y, z = directions.unbind(-1)
    sign = torch.where(z < 0.0, -1.0, 1.0).to(z.dtype)
    share = 1.0 / (1.0 + sign * z)
    xy = x * y * share
    first = torch.stack((1.0 - x * x * share, -xy, -sign * x), dim=-1)
    second = torch.stack((-sign * xy, sign * (1.0 - y * y * share), -y), dim=-1)
    return torch.stack((first, second, directions), dim=1)


class _NextDegree(nn.Module):
    """Rows |m| <= min(l, m_max) of the matrix of degree l, computed from the matrix of degree l - 1."""

    coupling: Tensor
    inverse: Tensor

    def __init__(self, degree: int, m_max: int) -> None:
        super().__init__()
        self.degree = degree
        self.rows = min(degree, m_max)
        # For degrees above m_max, no new rows appear. Each order m then couples only with order 0 of degree 1.
        self.same_rows = degree > m_max
        # The rows of the matrix (2l + 1, 2l - 1, 3) are orthonormal.
        matrix = coupling(degree - 1, 1, degree).permute(2, 0, 1).contiguous() * math.sqrt(2.0 * degree + 1.0)
        self.register_buffer("coupling", matrix, persistent=False)
        inverse = torch.ones(1, 1, dtype=torch.float64)
        if self.same_rows:
            orders = torch.arange(-self.rows, self.rows + 1)
            inverse = 1.0 / matrix[orders + degree, orders + degree - 1, 1].unsqueeze(1)
        self.register_buffer("inverse", inverse, persistent=False)

    def forward(self, lower: Tensor, first: Tensor) -> Tensor:
        """Map matrices of degree l - 1 (E, rows, 2l - 1) and of degree 1 (E, 3, 3) to degree l (E, rows, 2l + 1)."""
        size, below, n_edges = 2 * self.degree + 1, 2 * self.degree - 1, lower.shape[0]
        matrix = self.coupling.to(lower.dtype)
        right = matrix.permute(1, 2, 0).reshape(3 * below, size)
        if self.same_rows:
            products = lower.unsqueeze(3) * first[:, 1].view(n_edges, 1, 1, 3)
            return products.flatten(2).matmul(right) * self.inverse.to(lower.dtype)
        left = matrix.permute(0, 2, 1).reshape(3 * size, below)
        # Couple degree l - 1 first, which leaves the indices (l, c), then contract each c with its row of degree 1.
        turned = left.matmul(lower).view(n_edges, size, 3, below)
        products = torch.einsum("eacb,ecd->eabd", turned, first)
        return products.flatten(2).matmul(right)


class EdgeRotations(nn.Module):
    """Matrices that rotate the coefficients of atoms to the frame of an edge.

    Args:
        l_max: Largest degree of the coefficients.
        m_max: Largest order that is kept in the frame of the edge, from 1 to ``l_max``.
    """

    by_order: Tensor

    def __init__(self, l_max: int, m_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.size = (l_max + 1) ** 2
        self.next_degrees = nn.ModuleList(_NextDegree(degree, m_max) for degree in range(2, l_max + 1))
        rows = [(degree, order) for degree, order in orders_by_degree(l_max) if abs(order) <= m_max]
        places = [rows.index(one) for one in orders_by_order(l_max, m_max)]
        self.register_buffer("by_order", torch.tensor(places), persistent=False)

    def forward(self, directions: Tensor) -> Tensor:
        """Map unit vectors (E, 3) to matrices (E, rows, (l_max + 1)^2), with rows as in `orders_by_order`."""
        frames = edge_frames(directions)
        # The components of degree 1 are y, z, x.
        first = frames.roll([-1, -1], [1, 2])
        scalar = torch.ones_like(directions[:, :1]).unsqueeze(2)
        blocks = [
            nn.functional.pad(scalar, [0, self.size - 1]),
            nn.functional.pad(first, [1, self.size - 4]),
        ]
        matrix = first
        for step in self.next_degrees:
            matrix = step(matrix, first)
            before = blocks_before(matrix.shape[2])
            blocks.append(nn.functional.pad(matrix, [before, self.size - before - matrix.shape[2]]))
        return torch.cat(blocks, dim=1).index_select(1, self.by_order)


def blocks_before(size: int) -> int:
    """Return the number of coefficients below degree l, given the number 2l + 1 of coefficients of degree l."""
    return (size // 2) * (size // 2)
