"""Cartesian tensors up to rank 2: components, channel mixing, and products.

Each channel of an atom is a 3 x 3 matrix I + A + S, the sum of a multiple of the identity (scalar), an antisymmetric
matrix (vector), and a symmetric traceless matrix. It is stored as 1 + 3 + 5 components in an orthonormal basis,
(N, 9, F).
"""

import math

import torch
from torch import Tensor, nn


def matrix_basis() -> Tensor:
    """Return nine orthonormal matrices (9, 3, 3), float64: identity, three antisymmetric, five symmetric traceless."""
    basis = torch.zeros(9, 3, 3, dtype=torch.float64)
    basis[0] = torch.eye(3, dtype=torch.float64) / math.sqrt(3.0)
    half = 1.0 / math.sqrt(2.0)
    for number, (row, column) in enumerate(((2, 1), (0, 2), (1, 0))):
        # Normalized matrix of the cross product with a unit vector.
        basis[1 + number, row, column] = half
        basis[1 + number, column, row] = -half
        basis[4 + number, row, column] = basis[4 + number, column, row] = half
    basis[7, 0, 0], basis[7, 1, 1] = half, -half
    basis[8] = torch.diag(torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64)) / math.sqrt(6.0)
    return basis


def product_of_matrices(left: Tensor, right: Tensor) -> Tensor:
    """Return the matrix product for each atom and channel, (N, 3, 3, F) x (N, 3, 3, F) -> (N, 3, 3, F).

    The product is computed as a sum of three outer products over all channels. A batched product of 3 x 3 matrices
    takes twice as long.
    """
    total = left[:, :, 0:1] * right[:, 0:1]
    total = total + left[:, :, 1:2] * right[:, 1:2]
    return total + left[:, :, 2:3] * right[:, 2:3]


def limited(tensors: Tensor, largest: float) -> Tensor:
    """Return tensors (N, 9, F) whose norms n are scaled to n / sqrt(1 + (n / largest)^2)."""
    squares = (tensors * tensors).sum(1, keepdim=True)
    return tensors * torch.rsqrt(1.0 + squares / (largest * largest))


class PartwiseLinear(nn.Module):
    """Linear mixing of channels with separate weights for scalars, vectors and traceless matrices."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scalars = nn.Linear(inputs, outputs, bias=False)
        self.vectors = nn.Linear(inputs, outputs, bias=False)
        self.matrices = nn.Linear(inputs, outputs, bias=False)

    def forward(self, tensors: Tensor) -> Tensor:
        """Map tensors (N, 9, F) to tensors (N, 9, G)."""
        scalars, vectors, matrices = tensors.split_with_sizes([1, 3, 5], dim=1)
        return torch.cat((self.scalars(scalars), self.vectors(vectors), self.matrices(matrices)), dim=1)


class TracelessSquares(nn.Module):
    """Module that computes the five components of u u^T - 1/3 for unit vectors u."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", matrix_basis()[4:].reshape(5, 9).t().contiguous(), persistent=False)

    def forward(self, units: Tensor) -> Tensor:
        """Map unit vectors (E, 3) to components (E, 5)."""
        squares = (units.unsqueeze(2) * units.unsqueeze(1)).view(-1, 9)
        return squares.matmul(self.basis.to(units.dtype))
