"""Radial functions of the interatomic distance."""

import math

import torch
from torch import Tensor, nn


class PolynomialCutoff(nn.Module):
    """Smooth switch from 1 at r = 0 to 0 at the cutoff, where two derivatives are continuous.

    The switch is ``1 - 28 x^6 + 48 x^7 - 21 x^8`` with x = r / cutoff (Gasteiger et al. 2020, DimeNet, eq. 8 with
    p = 6).
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to weights (E,)."""
        x = torch.clamp(distances / self.cutoff, max=1.0)
        cube = x * x * x
        return 1.0 + cube * cube * (-28.0 + x * (48.0 - 21.0 * x))


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero, ``sqrt(2/c) sin(n pi r / c) / r`` (Gasteiger et al. 2020, eq. 7)."""

    frequencies: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.size = size
        self.norm = math.sqrt(2.0 / cutoff)
        self.register_buffer("frequencies", torch.arange(1, size + 1) * (math.pi / cutoff), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to features (E, size)."""
        r = distances.unsqueeze(-1)
        return torch.sin(r * self.frequencies.to(r.dtype)) * (self.norm / r)


class GaussianBasis(nn.Module):
    """Gaussians on a regular grid from 0 to the cutoff, with the spacing as width (Schütt et al. 2017, SchNet)."""

    centers: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.size = size
        centers = torch.linspace(0.0, cutoff, size, dtype=torch.float64)
        self.coefficient = -0.5 / float(centers[1] - centers[0]) ** 2
        self.register_buffer("centers", centers, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to features (E, size)."""
        offset = distances.unsqueeze(-1) - self.centers.to(distances.dtype)
        return torch.exp(self.coefficient * offset * offset)


class RadialFeatures(nn.Module):
    """Radial functions multiplied by the cutoff switch, with the switch itself in the last column.

    A linear layer without bias maps these features to the filter ``(W b(r) + c) switch(r)`` in one matrix product.
    """

    def __init__(self, cutoff: float, size: int, basis: str) -> None:
        super().__init__()
        self.basis = RADIAL_BASES[basis](cutoff, size)
        self.switch = PolynomialCutoff(cutoff)

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to features (E, size + 1)."""
        switch = self.switch(distances).unsqueeze(-1)
        return torch.cat((self.basis(distances) * switch, switch), dim=-1)


def edge_lengths(edge_vectors: Tensor) -> Tensor:
    """Return the lengths (E,) of nonzero edge vectors (E, 3). Their derivatives are faster than for `torch.norm`."""
    return (edge_vectors * edge_vectors).sum(-1).sqrt()


RADIAL_BASES: dict[str, type[BesselBasis] | type[GaussianBasis]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
