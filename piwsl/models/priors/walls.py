"""Walls: energies that rise where the distances between atoms leave the range of the training data."""

from collections.abc import Sequence
from typing import Annotated, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.structures.pairs import pair_numbers
from piwsl.typing import MAX_ATOMIC_NUMBER

# Largest molecule: the tables of pairs have the square of this size.
MOST_ATOMS = 1000

Distance = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0, lt=MOST_ATOMS)]
Number = Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)]
PairRange = tuple[Index, Index, Distance, Distance]


class WallRanges(BaseModel):
    """Distances at which walls begin.

    Attributes:
        shortest: Shortest distance of each pair of elements, such as ``C-H``, angstrom. With `molecule`, that of atoms
            that are neither bonded nor have a common neighbor.
        molecule: Atomic numbers of the atoms of a molecule in their order; None for walls that depend on elements only.
        bonds: Bonds of the molecule: two atoms, their shortest and their longest distance in angstrom.
        angles: Pairs of atoms with a common neighbor, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shortest: dict[str, Distance]
    molecule: list[Number] | None = Field(None, max_length=MOST_ATOMS)
    bonds: list[PairRange] = []
    angles: list[PairRange] = []

    @model_validator(mode="after")
    def _consistent(self) -> "WallRanges":
        atoms = len(self.molecule or ())
        for first, last, shortest, longest in self.pairs:
            if first == last or max(first, last) >= atoms:
                raise ValueError(f"atoms {first} and {last} are not a pair of atoms of the molecule")
            if shortest >= longest:
                raise ValueError(f"atoms {first} and {last} have no range from a shorter to a longer distance")
        for name in self.shortest:
            pair_numbers(name)
        return self

    @property
    def pairs(self) -> list[PairRange]:
        """All pairs with a range of their own."""
        return [*self.bonds, *self.angles]

    def widened(self, other: "WallRanges") -> "WallRanges":
        """Return ranges that include those of other data on the same bonds or elements.

        Raises:
            ValueError: The bonds differ.
        """
        if self.molecule != other.molecule or _ends(self.bonds) != _ends(other.bonds):
            raise ValueError("the bonds differ")
        names = sorted({*self.shortest, *other.shortest})
        known = (self.shortest, other.shortest)
        return WallRanges(
            shortest={name: min(one[name] for one in known if name in one) for name in names},
            molecule=self.molecule,
            bonds=_wider(self.bonds, other.bonds),
            angles=_wider(self.angles, other.angles),
        )

    def reordered(self, mapping: Sequence[int]) -> "WallRanges":
        """Return the ranges for another order of the atoms.

        Args:
            mapping: For each atom of the molecule, its index in the new order.
        """
        assert self.molecule is not None
        numbers = list(self.molecule)
        for atom, index in enumerate(mapping):
            numbers[index] = self.molecule[atom]

        def moved(pairs: Sequence[PairRange]) -> list[PairRange]:
            ends = [(sorted((mapping[first], mapping[last])), low, high) for first, last, low, high in pairs]
            return sorted((first, last, low, high) for (first, last), low, high in ends)

        return WallRanges(shortest=self.shortest, molecule=numbers, bonds=moved(self.bonds), angles=moved(self.angles))


def _ends(pairs: Sequence[PairRange]) -> list[tuple[int, int]]:
    return sorted((first, last) for first, last, _, _ in pairs)


def _wider(mine: Sequence[PairRange], theirs: Sequence[PairRange]) -> list[PairRange]:
    """Return the wider ranges of the same pairs."""
    return [
        (first, last, min(low, other[2]), max(high, other[3]))
        for (first, last, low, high), other in zip(sorted(mine), sorted(theirs), strict=True)
    ]


class Walls(nn.Module):
    """Energy of the distances outside the range of the training data, which is zero within.

    Below the beginning ``l`` of its range, a pair has the energy ``k x^3 / (2 (x + d))`` with x = l - r: cubic at
    first, so that the second derivative is continuous, then harmonic. Above the end ``u`` of its range, a pair with a
    range of its own has the energy ``D - D exp(-k y^3 / (2 (y + d) D)) s(y / (c - u))`` with y = r - u, the cutoff c
    and a switch s from 1 to 0, which has the value D at the cutoff, where the pair has no edge any more. `offset`
    contains the sum of D, which is constant in a molecule, so D is subtracted from the energy of each edge, in float64.

    Args:
        ranges: Distances at which walls begin.
        elements: Atomic numbers that the potential supports.
        cutoff: Interaction range of the potential, angstrom.
        pairs: Pairs of a molecule, if the atoms have their order. With None, the atoms of each molecule follow each
            other.
    """

    stiffness: Final = 100.0  # k, eV/angstrom^2
    onset: Final = 0.1  # d, angstrom
    depth: Final = 64.0  # D, eV: far above every thermal energy
    kinds: Tensor
    table: Tensor

    def __init__(
        self, ranges: WallRanges, elements: Sequence[int], cutoff: float, pairs: MoleculePairs | None = None
    ) -> None:
        super().__init__()
        self.reach = cutoff
        self.fixed = ranges.molecule is not None
        self.copies = 1 if pairs is None else pairs.copies
        numbers = sorted(elements) if ranges.molecule is None else ranges.molecule
        self.count = len(numbers)
        index = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.int64)
        if ranges.molecule is None:
            index[numbers] = torch.arange(len(numbers))
        lower = torch.zeros(MAX_ATOMIC_NUMBER + 1, MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        for name, distance in ranges.shortest.items():
            first, last = pair_numbers(name)
            lower[first, last] = lower[last, first] = min(distance, cutoff)
        lower = lower[numbers][:, numbers]
        upper, depth = torch.full_like(lower, cutoff), torch.zeros_like(lower)
        for first, last, low, high in ranges.pairs:
            for one, other in ((first, last), (last, first)):
                lower[one, other] = min(low, cutoff)
                if high < cutoff:
                    upper[one, other], depth[one, other] = high, self.depth
        width = torch.where(depth > 0, 1 / (cutoff - upper).clamp(min=1e-3), torch.zeros_like(depth))
        self.offset = float(depth.sum()) / 2 / max(self.count, 1)
        self.register_buffer("kinds", index, persistent=False)
        self.register_buffer("table", torch.stack((lower, upper, width, depth), -1).view(-1, 4), persistent=False)

    def forward(self, species: Tensor, edges: Tensor, distances: Tensor) -> Tensor:
        """Map species (N,), edges (2, E) and distances (E,) to the energy of each pair (E,), eV, without `offset`.

        The energies are in float64.
        """
        lower, upper, width, depth = self._of_pairs(species, edges, distances)
        below, above = torch.clamp(lower - distances, min=0.0), torch.clamp(distances - upper, min=0.0)
        rise = _rise(above * width)
        energies: Tensor = self._wall(below)
        energies = energies + depth * (rise - (1.0 - rise) * torch.expm1(self._wall(above) / -self.depth))
        return energies.to(torch.float64) - depth.to(torch.float64)

    def slopes(self, species: Tensor, edges: Tensor, distances: Tensor) -> Tensor:
        """Return the derivative of the energy of each pair (E,) with respect to the distance, eV/angstrom."""
        lower, upper, width, depth = self._of_pairs(species, edges, distances)
        below, above = torch.clamp(lower - distances, min=0.0), torch.clamp(distances - upper, min=0.0)
        x = above * width
        falling = self._wall_slope(above) / self.depth * (1.0 - _rise(x)) + width * _rise_slope(x)
        slopes: Tensor = depth * torch.exp(self._wall(above) / -self.depth) * falling - self._wall_slope(below)
        return slopes

    def _wall(self, x: Tensor) -> Tensor:
        """Return k x^3 / (2 (x + d)) for x >= 0."""
        return 0.5 * self.stiffness * x * x * x / (x + self.onset)

    def _wall_slope(self, x: Tensor) -> Tensor:
        """Return the derivative of `_wall`."""
        above = x + self.onset
        return 0.5 * self.stiffness * x * x * (2.0 * x + 3.0 * self.onset) / (above * above)

    def _of_pairs(self, species: Tensor, edges: Tensor, distances: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.fixed:
            kinds = torch.div(edges, self.copies, rounding_mode="floor") % self.count
        else:
            kinds = self.kinds.index_select(0, species)[edges]
        parameters = self.table.to(distances.dtype).index_select(0, kinds[0] * self.count + kinds[1])
        return parameters[:, 0], parameters[:, 1], parameters[:, 2], parameters[:, 3]


def _rise(x: Tensor) -> Tensor:
    """Return 1 - s(x) = 10 x^3 - 15 x^4 + 6 x^5 for x from 0 to 1, and 1 above."""
    x = torch.clamp(x, max=1.0)
    return x * x * x * (10.0 - x * (15.0 - 6.0 * x))


def _rise_slope(x: Tensor) -> Tensor:
    """Return the derivative of `_rise`, 30 x^2 (1 - x)^2."""
    x = torch.clamp(x, max=1.0)
    return 30.0 * x * x * (1.0 - x) * (1.0 - x)
