"""Stop rules for pairs of atoms that are too close: contacts, and distances below the training data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from piwsl.data.domain import CLOSER
from piwsl.errors import ConfigError
from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.rule import BuiltInRule, Phase, Violation, name_atoms
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.cells import periodic_directions
from piwsl.structures.close_pairs import ALL_PAIRS, ClosePairs
from piwsl.structures.contacts import unbonded_pairs
from piwsl.structures.files import atom_name
from piwsl.structures.metals import contact_scale, is_metal
from piwsl.structures.neighbors import SkinnedNeighbors
from piwsl.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from piwsl.trajectories.thermo import Energies

# Pairs (p, 2), their distances (p,) and the limits of these distances (p,), angstrom.
Contacts = tuple[IntArray, FloatArray, FloatArray]


class ContactRule(BuiltInRule):
    """Stop rule that limits the distance of unbonded atoms to a fraction of the sum of their covalent radii.

    In a cell, pairs with a metal are checked even if they are bonded. Their limit is smaller by the factor
    `piwsl.structures.metals.METAL_CONTACT`.

    Args:
        structure: Start structure.
        fraction: Smallest distance as a fraction of the sum of the covalent radii.
    """

    name = "contact"
    default = 1.0
    help = (
        "two unbonded atoms are closer than this fraction of the sum of their covalent radii; in a cell, the limit "
        "for pairs with a metal is 0.6 times as large"
    )

    def __init__(self, structure: Atoms, fraction: float) -> None:
        self._structure = structure
        # In a cell, the nearest images of all pairs cost far more than a neighbor search.
        all_pairs = len(structure) <= ALL_PAIRS and not structure.pbc.any()
        self._candidates = (AllContacts if all_pairs else CloseContacts)(structure, fraction)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report the pair with the smallest distance relative to its limit."""
        pairs, distances, limits = self._candidates(snapshot)
        if len(pairs) == 0:
            return None
        worst = int((distances / limits).argmin())
        if distances[worst] >= limits[worst]:
            return None
        pair = [int(index) for index in pairs[worst]]
        names = " and ".join(atom_name(self._structure, index) for index in pair)
        # In cells, bonded pairs with a metal are checked as well.
        with_metal = bool(self._structure.pbc.any() and is_metal(self._structure.numbers[pair]).any())
        return Violation(
            rule=self.name,
            value=float(distances[worst]),
            limit=float(limits[worst]),
            unit="angstrom",
            atoms=name_atoms(self._structure, pair),
            step=step,
            message=f"step {step}: atoms {names}{'' if with_metal else ', which are not bonded,'} "
            f"are {distances[worst]:.2f} angstrom apart (limit {limits[worst]:.2f})",
        )


class AllContacts:
    """Distances of all unbonded pairs of a molecule. For the arguments, see `ContactRule`."""

    def __init__(self, structure: Atoms, fraction: float) -> None:
        self._pairs, radii = unbonded_pairs(structure.numbers, bonded_pairs(structure))
        self._first, self._second = self._pairs[:, 0].copy(), self._pairs[:, 1].copy()
        self._limits = fraction * radii

    def __call__(self, snapshot: Snapshot) -> Contacts:
        """Return all pairs."""
        vectors = snapshot.positions[self._second] - snapshot.positions[self._first]
        return self._pairs, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), self._limits


class CloseContacts:
    """Pairs closer than their limit, for cells and large molecules. For the arguments, see `ContactRule`."""

    def __init__(self, structure: Atoms, fraction: float) -> None:
        self._radii = fraction * covalent_radii[structure.numbers]
        self._count = len(structure)
        bonds = bonded_pairs(structure)
        self._metals = is_metal(structure.numbers) & structure.pbc.any()
        bonds = bonds[~self._metals[bonds].any(axis=1)]
        # Sorted; the last key is larger than the key of any pair.
        self._bonded = np.append(bonds[:, 0] * self._count + bonds[:, 1], self._count**2)
        self._neighbors = SkinnedNeighbors(2 * float(self._radii.max()), periodic_directions(structure))

    def __call__(self, snapshot: Snapshot) -> Contacts:
        """Return the pairs that are too close."""
        edges, vectors = self._neighbors(snapshot.positions, snapshot.cell)
        half = edges.shape[1] // 2  # the second half contains the same pairs in the other direction
        first, second, vectors = edges[0, :half], edges[1, :half], vectors[:half]
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        limits = self._radii[first] + self._radii[second]
        if self._metals.any():
            limits = limits * contact_scale(self._metals[first] | self._metals[second])
        close = np.flatnonzero((distances < limits) & (first != second))
        low, high = np.minimum(first[close], second[close]), np.maximum(first[close], second[close])
        keys = low * self._count + high
        free = self._bonded[np.searchsorted(self._bonded, keys)] != keys
        close = close[free]
        return np.stack([low, high], axis=1)[free], distances[close], limits[close]


class ExtrapolationRule(BuiltInRule):
    """Stop rule that reports pairs closer than a fraction of the shortest distance of their elements in training.

    At shorter distances, the potential extrapolates. All pairs are checked, bonded or not.

    Args:
        structure: Start structure.
        closest: Shortest distance (Z, Z) of each pair of elements in the training data, angstrom.
        fraction: Smallest distance as a fraction of the shortest distance in training.
        advisory: Whether the run continues after a violation has been recorded.
    """

    name = "extrapolation"
    default = CLOSER
    active = "if the model contains its training domain; only recorded unless a limit is given"
    help = "two atoms are closer than this fraction of the shortest distance of their elements in training"

    def __init__(self, structure: Atoms, closest: FloatArray, fraction: float, advisory: bool = True) -> None:
        self._structure, self._closest, self.advisory = structure, closest, advisory
        self._limits = fraction * closest
        self._pairs = ClosePairs(structure.numbers, periodic_directions(structure), self._limits)

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """See `BuiltInRule`."""
        return phase.domain is not None

    @classmethod
    def factory(cls, phase: Phase, limits: tuple[float, ...]) -> Callable[[], ExtrapolationRule]:
        """See `BuiltInRule`."""
        if phase.domain is None:
            raise ConfigError(
                f"stop rule {cls.name}: the model file does not describe its training data: train the model again, or "
                "omit the rule"
            )
        closest = phase.domain.limits()
        return lambda: cls(phase.structure, closest, limits[0] if limits else CLOSER, advisory=not limits)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report the pair with the smallest distance relative to its limit."""
        found = self._pairs(snapshot.positions, snapshot.cell)
        if found is None:
            return None
        first, second, distance = found
        numbers = self._structure.numbers
        pair, closest = sorted((first, second)), float(self._closest[numbers[first], numbers[second]])
        names = " and ".join(atom_name(self._structure, index) for index in pair)
        return Violation(
            rule=self.name,
            value=distance,
            limit=float(self._limits[numbers[first], numbers[second]]),
            unit="angstrom",
            atoms=name_atoms(self._structure, pair),
            step=step,
            message=f"step {step}: atoms {names} are {distance:.2f} angstrom apart, but never closer than "
            f"{closest:.2f} in the training data: energies and forces are extrapolated",
            advisory=self.advisory,
        )
