"""Real spherical harmonics and the coefficients that couple them.

The components of degree l are ordered by m = -l ... l. The polar axis is y, so degree 1 is (x, y, z) up to a factor.
Coupling coefficients are computed in float64 with Racah's formula (Varshalovich, Moskalev, Khersonskii, Quantum Theory
of Angular Momentum, 1988, section 8.2.1) and transformed from complex to real harmonics.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


@lru_cache(maxsize=256)
def _coupling(left: int, right: int, result: int) -> Tensor:
    complex_values = torch.zeros(2 * left + 1, 2 * right + 1, 2 * result + 1, dtype=torch.complex128)
    for m in range(-left, left + 1):
        for n in range(-right, right + 1):
            if abs(m + n) <= result:
                value = _clebsch_gordan(left, m, right, n, result, m + n)
                complex_values[left + m, right + n, result + m + n] = value
    to_left, to_right, to_result = _real_basis(left), _real_basis(right), _real_basis(result)
    real = torch.einsum("am,bn,ck,mnk->abc", to_left, to_right, to_result.conj(), complex_values)
    # With the phases of `_real_basis`, the coefficients are real.
    values: Tensor = real.real
    values = values / torch.linalg.vector_norm(values)
    signed: Tensor = values * _phase(left, right, result, values)
    return signed


def _phase(left: int, right: int, result: int, values: Tensor) -> float:
    """Return the sign that the coefficients have by convention.

    If the sum of the degrees is odd, the first coefficient for ascending degrees is positive, and an exchange of two
    degrees changes the sign. The weights of networks that were trained with these products depend on the sign.
    """
    if (left + right + result) % 2 == 0:
        return 1.0
    degrees = [left, right, result]
    order = sorted(range(3), key=lambda place: degrees[place])
    ascending = values.permute(order).flatten()
    first = float(ascending[ascending.abs() > 1e-9][0])
    swaps = sum(order[a] > order[b] for a in range(3) for b in range(a + 1, 3))
    # The order of equal degrees does not affect the sign.
    return math.copysign(1.0, first) * (-1.0) ** swaps


def coupling(left: int, right: int, result: int) -> Tensor:
    """Return the real coefficients that couple two degrees to a third. Their norm is one.

    Args:
        left: Degree of the left factor.
        right: Degree of the right factor.
        result: Degree of the product.

    Returns:
        Coefficients (2 left + 1, 2 right + 1, 2 result + 1), float64.

    Raises:
        ValueError: The degrees violate the triangle inequality.
    """
    if not abs(left - right) <= result <= left + right:
        raise ValueError(f"degrees {left} and {right} do not couple to {result}")
    return _coupling(left, right, result).clone()


class NextDegree(nn.Module):
    """Spherical harmonics of degree l, computed from the harmonics of degree l - 1."""

    matrix: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        coefficients = coupling(1, degree - 1, degree)
        # Along the polar axis, only the component m = 0 is not zero. Its square must be 2 l + 1 times the norm.
        along_axis = float(coefficients[1, degree - 1, degree]) * math.sqrt(2.0 * degree - 1.0)
        matrix = coefficients.reshape(-1, 2 * degree + 1) * (math.sqrt(2.0 * degree + 1.0) / along_axis)
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, units: Tensor, below: Tensor) -> Tensor:
        """Map unit vectors (E, 3) and harmonics (E, 2l - 1) to harmonics (E, 2l + 1)."""
        products = (units.unsqueeze(2) * below.unsqueeze(1)).flatten(1)
        return products.matmul(self.matrix.to(units.dtype))


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics of unit vectors up to a given degree.

    Args:
        largest: Largest degree.
        norm: Normalization. With ``integral``, the integral of each squared harmonic over the sphere is one. With
            ``component``, its mean over the sphere is one.
    """

    def __init__(self, largest: int, norm: str = "integral") -> None:
        super().__init__()
        self.first = {"integral": 1.0 / math.sqrt(4.0 * math.pi), "component": 1.0}[norm]
        self.steps = nn.ModuleList(NextDegree(degree) for degree in range(1, largest + 1))

    def forward(self, units: Tensor) -> Tensor:
        """Map unit vectors (E, 3) to harmonics (E, (largest + 1)^2), in ascending order of degrees from 0."""
        below = torch.full_like(units[:, :1], self.first)
        parts = [below]
        for step in self.steps:
            below = step(units, below)
            parts.append(below)
        return torch.cat(parts, dim=1)


def degree_index(degrees: list[int]) -> Tensor:
    """Return the index of the degree in the list for each component, (sum (2 l + 1),)."""
    sizes = torch.tensor([2 * degree + 1 for degree in degrees])
    return torch.arange(len(degrees)).repeat_interleave(sizes)


def _real_basis(degree: int) -> Tensor:
    """Return the matrix (2l + 1, 2l + 1) from complex to real harmonics, times (-i)^l, complex128."""
    matrix = torch.zeros(2 * degree + 1, 2 * degree + 1, dtype=torch.complex128)
    half = 1.0 / math.sqrt(2.0)
    for m in range(1, degree + 1):
        sign = (-1.0) ** m
        imaginary = torch.tensor([1j * half, -1j * half * sign], dtype=torch.complex128)
        matrix[degree - m, [degree - m, degree + m]] = imaginary
        matrix[degree + m, degree + m], matrix[degree + m, degree - m] = half * sign, half
    matrix[degree, degree] = 1.0
    return matrix * (-1j) ** degree


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j3: int, m3: int) -> float:
    """Return the coefficient <j1 m1 j2 m2 | j3 m3> by Racah's formula."""
    f = math.factorial
    prefactor = math.sqrt(
        (2 * j3 + 1) * f(j3 + j1 - j2) * f(j3 - j1 + j2) * f(j1 + j2 - j3) / f(j1 + j2 + j3 + 1)
    ) * math.sqrt(f(j3 + m3) * f(j3 - m3) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2))
    first, last = max(0, j2 - j3 - m1, j1 - j3 + m2), min(j1 + j2 - j3, j1 - m1, j2 + m2)
    total = sum(
        (-1.0) ** k
        / (f(k) * f(j1 + j2 - j3 - k) * f(j1 - m1 - k) * f(j2 + m2 - k) * f(j3 - j2 + m1 + k) * f(j3 - j1 - m2 + k))
        for k in range(first, last + 1)
    )
    return prefactor * total
