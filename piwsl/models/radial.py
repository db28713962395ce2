"""Radial functions of the interatomic distance."""

import math

import torch
from torch import Tensor, nn


class PolynomialCutoff(nn.Module):
    """Smooth switch from 1 at r = 0 to 0 at the cutoff, with two continuous derivatives there.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` with x = r / cutoff (Gasteiger et al. 2020,
    DimeNet, eq. 8).
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.exponent = exponent
        self.a = -(exponent + 1) * (exponent + 2) / 2
        self.b = exponent * (exponent + 2)
        self.c = -exponent * (exponent + 1) / 2

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (E,) in angstrom to weights (E,)."""
        x = torch.clamp(distances / self.cutoff, max=1.0)
        power = x**self.exponent
        return 1.0 + power * (self.a + x * (self.b + x * self.c))


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero, ``sqrt(2/c) sin(n pi r / c) / r`` (Gasteiger et al. 2020, eq. 7)."""

    frequencies: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.size = size
        self.norm = math.sqrt(2.0 / cutoff)
        self.register_buffer("frequencies", torch.arange(1, size + 1) * (math.pi / cutoff), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (E,) in angstrom to features (E, size)."""
        r = distances.unsqueeze(-1)
        return torch.sin(r * self.frequencies.to(r.dtype)) * (self.norm / r)


class GaussianBasis(nn.Module):
    """Gaussians on an even grid from 0 to the cutoff, as wide as their spacing (Schütt et al. 2017, SchNet)."""

    centres: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.size = size
        centres = torch.linspace(0.0, cutoff, size, dtype=torch.float64)
        self.coefficient = -0.5 / float(centres[1] - centres[0]) ** 2
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (E,) in angstrom to features (E, size)."""
        offset = distances.unsqueeze(-1) - self.centres.to(distances.dtype)
        return torch.exp(self.coefficient * offset * offset)


RADIAL_BASES: dict[str, type[BesselBasis] | type[GaussianBasis]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
