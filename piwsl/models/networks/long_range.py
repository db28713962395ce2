"""Physical pair potentials in addition to a network: nuclear repulsion, electrostatics and dispersion.

Each module returns half the energy of each pair (P,) in eV, which is the share of one atom.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from ase.calculators.vdwcorrection import vdWDB_alphaC6
from ase.data import atomic_numbers
from torch import Tensor, nn

from piwsl.typing import MAX_ATOMIC_NUMBER
from piwsl.units import ASE_BOHR, ASE_COULOMB, ASE_HARTREE

# Fine-structure constant, which relates the polarizability to the van der Waals radius.
_FINE_STRUCTURE = 0.0072973525693


def smooth_switch(distances: Tensor, first: float, last: float) -> Tensor:
    """Return a switch (P,) that falls from 1 to 0 between two distances, with all derivatives continuous.

    The switch is ``s(1 - x) / (s(1 - x) + s(x))`` with s(x) = exp(-1/x) for x > 0 and x = 0 to 1 between the distances
    (Unke et al. 2021, SpookyNet, eq. 16).
    """
    x = (distances - first) / (last - first)
    rising, falling = _flat(x), _flat(1.0 - x)
    return falling / (falling + rising)


def _flat(x: Tensor) -> Tensor:
    # Below this limit, exp(-1/x) and its derivatives are zero in float32.
    inside = torch.clamp(x, min=1e-3)
    return torch.exp(-1.0 / inside) * (x > 1e-3)


class NuclearRepulsion(nn.Module):
    """Nuclear repulsion with trainable screening (Ziegler, Biersack, Littmark 1985; SpookyNet, eqs. 14 to 16).

    The pair energy is ``k Z_i Z_j / r sum_k c_k exp(-a_k d (Z_i^p + Z_j^p) r)`` with sum_k c_k = 1. A switch reduces it
    to zero between 0 and ``last``.

    Args:
        last: Distance from which on the repulsion is zero, angstrom.
    """

    def __init__(self, last: float = 1.5) -> None:
        super().__init__()
        self.last = last
        self.prefactor = 0.5 * ASE_COULOMB
        exponents = torch.tensor([3.2, 0.9423, 0.4028, 0.2016])
        weights = torch.tensor([0.1818, 0.5099, 0.2802, 0.02817])
        self.exponents = nn.Parameter(_inverse_softplus(exponents))
        self.weights = nn.Parameter(_inverse_softplus(weights))
        self.power = nn.Parameter(_inverse_softplus(torch.tensor(0.23)))
        self.density = nn.Parameter(_inverse_softplus(torch.tensor(1.0 / (0.8854 * ASE_BOHR))))

    def forward(self, center: Tensor, neighbor: Tensor, distances: Tensor) -> Tensor:
        """Map atomic numbers (P,) of both atoms, as floating-point numbers, and distances (P,) to energies (P,)."""
        softplus = nn.functional.softplus
        power, density = softplus(self.power), softplus(self.density)
        exponents, weights = softplus(self.exponents), softplus(self.weights)
        reduced = distances * (torch.pow(center, power) + torch.pow(neighbor, power)) * density
        screening = torch.exp(-reduced.unsqueeze(1) * exponents).matmul(weights / weights.sum())
        energies = self.prefactor * center * neighbor / distances * screening
        return energies * smooth_switch(distances, 0.0, self.last)


class Electrostatics(nn.Module):
    """Coulomb energy of charges with a finite width. The energy and its force vanish at the cutoff.

    The potential is V(r) = erf(r / width) / r, shifted to zero at the cutoff. Beyond 0.45 of the cutoff, it changes
    smoothly to the potential whose force is also shifted to zero (Kabylda et al., JACS 147, 33723, 2025, SO3LR).

    Args:
        cutoff: Interaction range, angstrom.
        width: Width of the charges, angstrom.
    """

    def __init__(self, cutoff: float, width: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.width = width
        self.prefactor = 0.5 * ASE_COULOMB
        self.first = 0.45 * cutoff
        self.shift = math.erf(cutoff / width) / cutoff
        slope = 2.0 / (math.sqrt(math.pi) * width) * math.exp(-((cutoff / width) ** 2))
        self.slope = (slope - self.shift) / cutoff

    def forward(self, center: Tensor, neighbor: Tensor, distances: Tensor) -> Tensor:
        """Map the charges (P,) of both atoms, in e, and distances (P,) to energies (P,)."""
        distances = torch.clamp(distances, max=self.cutoff)
        shifted = torch.erf(distances / self.width) / distances - self.shift
        remaining = 1.0 - smooth_switch(distances, self.first, self.cutoff)
        shifted = shifted - remaining * self.slope * (distances - self.cutoff)
        return self.prefactor * center * neighbor * shifted


class Dispersion(nn.Module):
    """Dispersion energy of quantum Drude oscillators with damping.

    The pair energy is ``- sum_n C_n / (r^n + R^n)`` for n = 6, 8, 10, with C8 = 5 C6 / gamma,
    C10 = 245 C6 / (8 gamma^2) and a damping radius R (Khabibrakhimov, Fedorov, Tkatchenko, JCTC 19, 7895, 2023; in
    SO3LR: Kabylda et al., JACS 147, 33723, 2025). Polarizabilities and C6 coefficients of free atoms (Tkatchenko,
    Scheffler, PRL 102, 073005, 2009) are scaled by the volume ratios of the atoms. Elements without such values have no
    dispersion.

    Args:
        cutoff: Interaction range, angstrom.
        width: Width of the range below the cutoff in which the energy is switched off, angstrom.
        damping: Factor for the damping radius.
    """

    polarizability: Tensor
    coefficient: Tensor

    def __init__(self, cutoff: float, width: float, damping: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.first = cutoff - width
        self.bohr = ASE_BOHR
        self.prefactor = -0.5 * ASE_HARTREE
        # The van der Waals radius is 2.54 alpha^(1/7) bohr for each of the two atoms.
        self.radius = 2.0 * 2.54 * damping
        self.scale = _FINE_STRUCTURE ** (-4.0 / 21.0)
        polarizability = torch.ones(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        coefficient = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        free_atoms: Mapping[str, Any] = vdWDB_alphaC6
        for symbol, values in free_atoms.items():
            number = atomic_numbers[symbol]
            polarizability[number], coefficient[number] = values[0], values[1]
        self.register_buffer("polarizability", polarizability, persistent=False)
        self.register_buffer("coefficient", coefficient, persistent=False)

    def forward(self, species: Tensor, ratios: Tensor, pairs: Tensor, distances: Tensor) -> Tensor:
        """Map species (N,), volume ratios (N,), pairs (2, P) and distances (P,) to energies (P,)."""
        alpha = self.polarizability.to(ratios.dtype).index_select(0, species) * ratios
        c6 = self.coefficient.to(ratios.dtype).index_select(0, species) * ratios * ratios
        alpha_i, alpha_j = alpha.index_select(0, pairs[0]), alpha.index_select(0, pairs[1])
        c6_i, c6_j = c6.index_select(0, pairs[0]), c6.index_select(0, pairs[1])
        mean = 0.5 * (alpha_i + alpha_j)
        mixed = alpha_i * alpha_i * c6_j + alpha_j * alpha_j * c6_i
        coefficient = 2.0 * c6_i * c6_j * alpha_i * alpha_j / torch.clamp(mixed, min=1e-12)
        seventh = torch.pow(mean, 1.0 / 7.0)
        # The width of the oscillator is a polynomial of its van der Waals radius, which was fitted in the first
        # reference, and gamma = 1 / (2 width^2).
        radius = self.scale * seventh
        width = -0.00433008 + radius * (0.24428889 + radius * (0.04125273 - 0.00078893 * radius))
        inverse_gamma = 2.0 * width * width
        r2 = (distances / self.bohr) ** 2
        d2 = (self.radius * seventh) ** 2
        r6, d6 = r2 * r2 * r2, d2 * d2 * d2
        series = 1.0 / (r6 + d6)
        series = series + 5.0 * inverse_gamma / (r6 * r2 + d6 * d2)
        series = series + (245.0 / 8.0) * inverse_gamma * inverse_gamma / (r6 * r2 * r2 + d6 * d2 * d2)
        energies: Tensor = self.prefactor * coefficient * series * smooth_switch(distances, self.first, self.cutoff)
        return energies


def _inverse_softplus(values: Tensor) -> Tensor:
    return torch.log(torch.expm1(values))
