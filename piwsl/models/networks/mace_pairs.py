"""Functions of pairs in MACE: radial functions, their network and cutoff, and the repulsion of nuclei."""

import math
from itertools import pairwise

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, Species


class Envelope(nn.Module):
    """Polynomial switch with any power p (Gasteiger et al. 2020, DimeNet, eq. 8)."""

    def __init__(self, cutoff: float, power: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.power = power
        self.first = 0.5 * (power + 1.0) * (power + 2.0)
        self.second = power * (power + 2.0)
        self.third = 0.5 * power * (power + 1.0)

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (P,) in angstrom to weights (P,)."""
        x = torch.clamp(distances / self.cutoff, max=1.0)
        return 1.0 - torch.pow(x, self.power) * (self.first - x * (self.second - self.third * x))


class Bessel(nn.Module):
    """Spherical Bessel functions of order zero with stored frequencies (Gasteiger et al. 2020, eq. 7)."""

    frequencies: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.norm = math.sqrt(2.0 / cutoff)
        self.register_buffer("frequencies", torch.arange(1, size + 1) * (math.pi / cutoff))

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (P,) in angstrom to features (P, size)."""
        r = distances.unsqueeze(1)
        return torch.sin(r * self.frequencies) * (self.norm / r)


class AgnesiTransform(nn.Module):
    """Map from distances to the range 0 to 1, relative to covalent radii (Witt et al., JCP 159, 164101, 2023).

    The transformed distance is ``1 / (1 + a x^q / (1 + x^(q - p)))`` with x = r / r0. The length r0 is the mean of both
    covalent radii.
    """

    radii: Tensor
    factor: Tensor
    outer: Tensor
    inner: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(1.0805))
        self.register_buffer("outer", torch.tensor(0.9183))
        self.register_buffer("inner", torch.tensor(4.5791))
        radii = torch.tensor(covalent_radii[: MAX_ATOMIC_NUMBER + 1], dtype=torch.float64)
        self.register_buffer("radii", radii, persistent=False)

    def forward(self, species: Species, pairs: Edges, distances: Tensor) -> Tensor:
        """Map species (N,), pairs (2, P) and distances (P,) to transformed distances (P,)."""
        radii = self.radii.to(distances.dtype).index_select(0, species)
        mean = 0.5 * (radii.index_select(0, pairs[0]) + radii.index_select(0, pairs[1]))
        x = distances / mean
        tail = 1.0 + torch.pow(x, self.outer - self.inner)
        transformed: Tensor = 1.0 / (1.0 + self.factor * torch.pow(x, self.outer) / tail)
        return transformed


class PairRepulsion(nn.Module):
    """Screened nuclear repulsion (Ziegler, Biersack, Littmark 1985) below the sum of the covalent radii."""

    radii: Tensor

    def __init__(self, power: int) -> None:
        super().__init__()
        self.envelope = Envelope(1.0, power)
        # MACE rounds the Coulomb constant and the Bohr radius: with other values, its weights give other energies.
        self.prefactor, self.bohr = 0.5 * 14.3996, 0.529
        self.exponents = [3.2, 0.9423, 0.4028, 0.2016]
        self.register_buffer("coefficients", torch.tensor([0.1818, 0.5099, 0.2802, 0.02817]))
        self.register_buffer("power", torch.tensor(0.300))
        self.register_buffer("length", torch.tensor(0.4543))
        radii = torch.tensor(covalent_radii[: MAX_ATOMIC_NUMBER + 1], dtype=torch.float64)
        self.register_buffer("radii", radii, persistent=False)

    coefficients: Tensor
    power: Tensor
    length: Tensor

    def forward(self, species: Species, pairs: Edges, distances: Tensor) -> Tensor:
        """Return half the energy of each pair (P,) in eV, from species (N,), pairs (2, P) and distances (P,)."""
        numbers = species.to(distances.dtype)
        first, second = numbers.index_select(0, pairs[0]), numbers.index_select(0, pairs[1])
        radii = self.radii.to(distances.dtype).index_select(0, species)
        cutoff = radii.index_select(0, pairs[0]) + radii.index_select(0, pairs[1])
        length = self.length * self.bohr / (torch.pow(first, self.power) + torch.pow(second, self.power))
        reduced = distances / length
        screening = torch.zeros_like(distances)
        for number, exponent in enumerate(self.exponents):
            screening = screening + self.coefficients[number] * torch.exp(-exponent * reduced)
        shares: Tensor = self.prefactor * first * second / distances * screening * self.envelope(distances / cutoff)
        return shares


class RadialNetwork(nn.Module):
    """Network that maps radial functions to filters, with layers without bias and SiLU between them (eq. 8)."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, outputs, bias=False) for inputs, outputs in pairwise(sizes)]
        for number, layer in enumerate(layers):
            # The mean square of SiLU is 0.36 for numbers from a normal distribution.
            gain = 1.0 if number == 0 else 1.0 / 0.6
            nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
        self.layers = nn.ModuleList(layers)

    def forward(self, radial: Tensor) -> Tensor:
        """Map radial functions (P, R) to filters (P, F)."""
        return self.hidden(radial).matmul(self.last_weight().t())

    def hidden(self, radial: Tensor) -> Tensor:
        """Map radial functions (P, R) to the input of the last layer."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            if number < last:
                radial = nn.functional.silu(layer(radial))
        return radial

    def last_weight(self) -> Tensor:
        """Return the weight of the last layer."""
        weight = self.layers[-1].weight
        assert isinstance(weight, Tensor)
        return weight
