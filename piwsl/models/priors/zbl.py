"""Screened repulsion of nuclei at short distances."""

from collections.abc import Sequence
from typing import Final

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from piwsl.typing import MAX_ATOMIC_NUMBER
from piwsl.units import BOHR, HARTREE

# Universal screening function (Ziegler, Biersack, Littmark 1985): sum of weight * exp(-exponent * r / a) with the
# screening length a = 0.8854 a0 / (Z_i^0.23 + Z_j^0.23).
_WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)
_EXPONENTS = (3.1998, 0.94229, 0.4029, 0.20162)
_LENGTH, _POWER = 0.8854 * BOHR, 0.23
_COULOMB = HARTREE * BOHR  # eV angstrom
# Range in units of the sum of the covalent radii. A range of 1 overlaps with bonds: the forces that remain for the
# network grow, and with 100 frames of aspirin its force error rises by 13 to 23 %.
_RANGE = 0.8


class ZBL(nn.Module):
    """Repulsion of nuclei after Ziegler, Biersack and Littmark, which ends smoothly below the length of a bond.

    The energy of a pair is ``k Z_i Z_j / r phi(r / a) s(r / R)`` with the Coulomb constant k and the universal
    screening function phi. The range R is 0.8 times the sum of the covalent radii of both elements, and at most the
    cutoff. The switch ``s(x) = 1 - 28 x^6 + 48 x^7 - 21 x^8`` and its first two derivatives are zero at x = 1, so the
    second derivative of the energy is continuous. The energy decreases with the distance everywhere within the range.

    Args:
        elements: Atomic numbers that the potential supports.
        cutoff: Interaction range of the potential, angstrom.
    """

    offset: Final = 0.0  # energy of each atom, eV
    index: Tensor
    pairs: Tensor
    weights: Tensor
    exponents: Tensor

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
        super().__init__()
        numbers = sorted(elements)
        index = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.int64)
        index[numbers] = torch.arange(len(numbers))
        charges = torch.tensor(numbers, dtype=torch.float64)
        powers = charges**_POWER
        radii = torch.from_numpy(covalent_radii)[numbers]
        ranges = torch.clamp(_RANGE * (radii[:, None] + radii), max=cutoff)
        self.count = len(numbers)
        self.reach = float(ranges.max())
        # For each pair of elements: strength (eV angstrom), inverse screening length and inverse range (1/angstrom).
        table = (_COULOMB * charges[:, None] * charges, (powers[:, None] + powers) / _LENGTH, 1.0 / ranges)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("pairs", torch.stack(table, dim=-1).view(-1, 3), persistent=False)
        # Columns, so that loops over pairs are the inner loops.
        self.register_buffer("weights", torch.tensor(_WEIGHTS, dtype=torch.float64)[:, None], persistent=False)
        self.register_buffer("exponents", torch.tensor(_EXPONENTS, dtype=torch.float64)[:, None], persistent=False)

    def forward(self, species: Tensor, edges: Tensor, distances: Tensor) -> Tensor:
        """Map species (N,), edges (2, E) and distances (E,) to the energy of each pair (E,), eV."""
        strength, screening, inverse_range = self._of_pairs(species, edges, distances)
        terms = torch.exp(-self.exponents.to(distances.dtype) * (distances * screening))
        screened = (terms * self.weights.to(distances.dtype)).sum(0)
        energies: Tensor = strength / distances * screened * switch(distances * inverse_range)
        return energies

    def slopes(self, species: Tensor, edges: Tensor, distances: Tensor) -> Tensor:
        """Return the derivative of the energy of each pair (E,) with respect to the distance, eV/angstrom."""
        strength, screening, inverse_range = self._of_pairs(species, edges, distances)
        exponents = self.exponents.to(distances.dtype)
        terms = torch.exp(-exponents * (distances * screening)) * self.weights.to(distances.dtype)
        screened, falling = terms.sum(0), (terms * exponents).sum(0) * screening
        x = distances * inverse_range
        of_switch = switch(x)
        slopes = (screened / distances + falling) * of_switch - screened * inverse_range * switch_slope(x)
        return -strength / distances * slopes

    def _of_pairs(self, species: Tensor, edges: Tensor, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = self.index.index_select(0, species)
        rows = index.index_select(0, edges[0]) * self.count + index.index_select(0, edges[1])
        parameters = self.pairs.to(distances.dtype).index_select(0, rows)
        return parameters[:, 0], parameters[:, 1], parameters[:, 2]


def switch(x: Tensor) -> Tensor:
    """Return 1 - 28 x^6 + 48 x^7 - 21 x^8 for x from 0 to 1, and 0 above.

    In the form ``(1 - x)^3 (1 + 3 x + 6 x^2 + 10 x^3 + 15 x^4 + 21 x^5)``, rounding errors vanish with the switch.
    """
    x = torch.clamp(x, max=1.0)
    left = 1.0 - x
    series = 1.0 + x * (3.0 + x * (6.0 + x * (10.0 + x * (15.0 + 21.0 * x))))
    return left * left * left * series


def switch_slope(x: Tensor) -> Tensor:
    """Return the derivative of `switch`, -168 x^5 (1 - x)^2."""
    x = torch.clamp(x, max=1.0)
    square, left = x * x, 1.0 - x
    return -168.0 * square * square * x * left * left
