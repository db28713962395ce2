"""Bonds of a molecule or crystal, and their reference lengths."""

from collections import defaultdict
from dataclasses import dataclass

import networkx
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import natural_cutoffs

from piwsl.errors import DataError
from piwsl.structures.cells import periodic_directions
from piwsl.structures.neighbors import neighbor_pairs
from piwsl.structures.pairs import PairDistances, pair_indices, pair_kind
from piwsl.typing import BoolArray, FloatArray, IntArray

# ASE's natural cutoffs are bare sums of covalent radii, which a stretched C-H bond already exceeds.
CUTOFF_SCALE = 1.2


@dataclass(frozen=True, eq=False)
class Bonds:
    """The bonds of a molecule or crystal.

    Attributes:
        pairs: (bonds, 2) atom indices; i < j in a molecule.
        lengths: (bonds,) mean lengths in the reference, angstrom.
        types: (bonds,) names such as ``C-H``.
        images: (bonds, 3) cells from the first atom to the second, of unwrapped frames; None in vacuum.
    """

    pairs: IntArray
    lengths: FloatArray
    types: tuple[str, ...]
    images: IntArray | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def chosen(self, which: BoolArray) -> "Bonds":
        """Those of a mask (bonds,)."""
        types = tuple(kind for kind, kept in zip(self.types, which, strict=True) if kept)
        return Bonds(self.pairs[which], self.lengths[which], types, None if self.images is None else self.images[which])

    def by_type(self) -> dict[str, IntArray]:
        """Indices into ``pairs`` for each bond type, sorted by name."""
        names = np.array(self.types)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def bond_type(first: int, second: int) -> str:
    """``C-H`` for two atomic numbers: carbon first, hydrogen last, else by the alphabet."""
    return pair_kind(first, second)


class MeanDistances:
    """Mean distances of all pairs, of frames that come in pieces.

    Means of distances, not of positions: a molecule that turns has no mean structure. One frame is enough.

    Args:
        species: (atoms,) atomic numbers.
    """

    def __init__(self, species: IntArray) -> None:
        self._species = species
        self._pairs = np.stack(pair_indices(len(species)), axis=1)
        self._distances = PairDistances(len(species))
        self._total = np.zeros(len(self._pairs))
        self._frames = 0

    def add(self, positions: FloatArray) -> None:
        """Positions (f, atoms, 3), angstrom."""
        for begin in range(0, len(positions), self._distances.chunk):
            piece = positions[begin : begin + self._distances.chunk]
            self._total += self._distances.of(piece).sum(axis=1, dtype=np.float64)
        self._frames += len(positions)

    def bonds(self) -> "Bonds":
        """Pairs whose mean distance is within 1.2 times the sum of ASE's natural cutoffs.

        Raises:
            DataError: no pair of atoms is bonded.
        """
        means = self._total / max(self._frames, 1)
        first, second = self._pairs.T
        radii = np.array(natural_cutoffs(Atoms(numbers=self._species), mult=CUTOFF_SCALE))
        bonded = means < radii[first] + radii[second]
        if not bonded.any():
            raise DataError(
                f"no bonds among the {len(self._species)} atoms of the reference: all mean distances exceed the "
                "covalent radii (check the unit of its positions)"
            )
        pairs = self._pairs[bonded]
        types = tuple(bond_type(int(self._species[i]), int(self._species[j])) for i, j in pairs)
        return Bonds(pairs, means[bonded], types)


def find_bonds(species: IntArray, positions: FloatArray) -> Bonds:
    """Bonds of a reference in memory, by the rule of `MeanDistances`.

    Args:
        species: (atoms,) atomic numbers.
        positions: (frames, atoms, 3) angstrom of the reference.

    Raises:
        DataError: no pair of atoms is bonded.
    """
    means = MeanDistances(species)
    means.add(positions)
    return means.bonds()


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Lengths (frames, bonds) in angstrom from positions (frames, atoms, 3)."""
    return np.asarray(np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1))


RING_SIZE = 8  # atoms; larger cycles are no rings that could be flat


class BondGraph:
    """Angles, dihedrals and rings of a molecule by type.

    Args:
        species: (atoms,) atomic numbers.
        bonds: of the reference.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        self._symbols = [chemical_symbols[int(number)] for number in species]
        self.graph = networkx.Graph()
        self.graph.add_nodes_from(range(len(species)))
        self.graph.add_edges_from((int(i), int(j)) for i, j in bonds.pairs)

    def angles(self) -> dict[str, IntArray]:
        """Triples (k, 3) of bonded atoms, the middle one in the middle, by type such as ``C-C-O``."""
        found: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for middle in self.graph:
            ends = sorted(self.graph[middle])
            for place, first in enumerate(ends):
                for last in ends[place + 1 :]:
                    self._sort_in(found, (first, middle, last))
        return _arrays(found)

    def dihedrals(self) -> dict[str, IntArray]:
        """Quadruples (k, 4) of atoms bonded one to the next, by type such as ``C-C-O-H``."""
        found: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for second, third in self.graph.edges:
            for first in self.graph[second]:
                for last in self.graph[third]:
                    if len({first, second, third, last}) == 4:
                        self._sort_in(found, (first, second, third, last))
        return _arrays(found)

    def rings(self) -> list[list[int]]:
        """Atoms of each small ring, in the order of their bonds."""
        cycles = networkx.minimum_cycle_basis(self.graph)
        return [_in_order(self.graph, cycle) for cycle in cycles if len(cycle) <= RING_SIZE]

    def rotatable(self) -> dict[str, tuple[int, int, int, int]]:
        """A dihedral about each bond that can rotate, by a name with its atoms, such as ``C3-C7-O8-C9``.

        Such a bond is in no ring, and both its atoms have other neighbors. Bonds of higher order are among them where
        their atoms have: a molecule does not say what order they are.
        """
        bridges = sorted(tuple(sorted(bond)) for bond in networkx.bridges(self.graph))
        found = {}
        for second, third in bridges:
            firsts = [one for one in self.graph[second] if one != third]
            lasts = [one for one in self.graph[third] if one != second]
            if firsts and lasts:
                chosen = (self._heaviest(firsts), second, third, self._heaviest(lasts))
                found["-".join(f"{self._symbols[one]}{one}" for one in chosen)] = chosen
        return found

    def _heaviest(self, atoms: list[int]) -> int:
        """Of neighbors; the first where several are."""
        return min(atoms, key=lambda one: (-len(self.graph[one]), self._symbols[one] == "H", one))

    def _sort_in(self, found: dict[str, list[tuple[int, ...]]], atoms: tuple[int, ...]) -> None:
        names = tuple(self._symbols[one] for one in atoms)
        if (names[::-1], atoms[::-1]) < (names, atoms):
            names, atoms = names[::-1], atoms[::-1]
        found["-".join(names)].append(atoms)


def _arrays(found: dict[str, list[tuple[int, ...]]]) -> dict[str, IntArray]:
    return {kind: np.array(sorted(atoms), dtype=np.int64) for kind, atoms in sorted(found.items())}


def _in_order(graph: "networkx.Graph[int]", cycle: list[int]) -> list[int]:
    inside = graph.subgraph(cycle)
    order = [min(cycle)]
    while len(order) < len(cycle):
        order.append(next(one for one in sorted(inside[order[-1]]) if one not in order))
    return order


def bonded_pairs(structure: Atoms) -> IntArray:
    """Pairs (b, 2) of atoms within 1.2 times the sum of ASE's natural cutoffs, as the analysis counts them; i < j."""
    radii = np.array(natural_cutoffs(structure, mult=CUTOFF_SCALE))
    longest = 2 * float(radii.max(initial=0.0))
    near = neighbor_pairs(structure.positions, structure.cell.array, periodic_directions(structure), longest)
    bonded = near.distances < radii[near.first] + radii[near.second]
    pairs = np.sort(np.stack([near.first, near.second], axis=1)[bonded], axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
