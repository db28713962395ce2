"""Functions on the unit sphere: exact quadrature, activations.

A channel of an atom is a function on the sphere, f(p) = sum_lm x_lm Y_lm(p), which is represented by its coefficients.
The harmonics are real and normalized to a mean square of one over the sphere. The mean square of f is therefore the sum
of the squared coefficients. Within a degree l, the orders m run from -l to l: sines of |m| phi come before m = 0, and
cosines of m phi after it. For l = 1, the harmonics are sqrt(3) (y, z, x).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from piwsl.models.networks.spherical import SphericalHarmonics
from piwsl.typing import FloatArray


def quadrature(degree: int, azimuthal: int | None = None) -> tuple[FloatArray, FloatArray]:
    """Return points (P, 3) and weights (P,) for exact means over the sphere. The weights add up to one.

    The product of a Gauss-Legendre rule in cos(theta) and equidistant phi is exact for polynomials up to ``degree``.

    Args:
        degree: Largest degree of the polynomials.
        azimuthal: Largest order m in phi. The default is ``degree``.
    """
    heights, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    n_angles = (degree if azimuthal is None else azimuthal) + 1
    angles = 2.0 * math.pi * np.arange(n_angles) / n_angles
    rings = np.sqrt(1.0 - heights**2)[:, None]
    points = np.stack(np.broadcast_arrays(rings * np.cos(angles), rings * np.sin(angles), heights[:, None]), axis=-1)
    return points.reshape(-1, 3), np.repeat(weights / (2.0 * n_angles), n_angles)


class SphereActivation(nn.Module):
    """Exactly equivariant, nonlinear function of the values on the sphere, which maps coefficients to coefficients.

    Passaro and Zitnick (2023) and Liao et al. (2023) apply SiLU at the points of a grid. The result is not a
    polynomial, so no grid is fine enough for exact equivariance. Here, the function is the expansion of SiLU to second
    order, scaled to grow linearly like SiLU:

        sigma(f) = f / 2 + f^2 / (4 n),   n^2 = 1 + mean over the sphere of f^2.

    The square of a function of degree l_max times a harmonic of degree l_max is a polynomial of degree 3 l_max, for
    which the quadrature is exact. The result therefore equals the exact projection and is the same in every frame.

    Args:
        orders: Degree and order (l, m) of each coefficient.
    """

    to_grid: Tensor
    from_grid: Tensor

    def __init__(self, orders: list[tuple[int, int]]) -> None:
        super().__init__()
        l_max = max(degree for degree, _ in orders)
        points, weights = quadrature(3 * l_max, 3 * max(order for _, order in orders))
        columns = [degree * degree + degree + order for degree, order in orders]
        # The polar axis of `SphericalHarmonics` is y. The polar axis of the quadrature is z.
        units = torch.from_numpy(points[:, [1, 2, 0]])
        harmonics = SphericalHarmonics(l_max, "component")(units)[:, columns]
        self.register_buffer("to_grid", harmonics, persistent=False)
        self.register_buffer("from_grid", (0.25 * harmonics.t() * torch.from_numpy(weights)), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to coefficients (N, K, F)."""
        values = self.to_grid.to(coefficients.dtype).matmul(coefficients)
        squares = self.from_grid.to(coefficients.dtype).matmul(values * values)
        norms = torch.rsqrt(1.0 + (coefficients * coefficients).sum(1, keepdim=True))
        return torch.addcmul(0.5 * coefficients, squares, norms)
