"""Bonds of a molecule or crystal, and their reference lengths."""

from collections import defaultdict
from collections.abc import Sequence
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

# ASE's natural cutoffs are plain sums of covalent radii, which a stretched C-H bond exceeds.
CUTOFF_SCALE = 1.2


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds of a molecule or crystal.

    Attributes:
        pairs: Indices (bonds, 2) of the atoms; i < j in a molecule.
        lengths: Mean lengths (bonds,) in the reference, angstrom.
        types: Name of each bond, such as ``C-H``.
        images: Cell offsets (bonds, 3) from the first atom to the second in unwrapped frames; None in vacuum.
    """

    pairs: IntArray
    lengths: FloatArray
    types: tuple[str, ...]
    images: IntArray | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def select(self, mask: BoolArray) -> "Bonds":
        """Return the bonds selected by a mask (bonds,)."""
        types = tuple(kind for kind, kept in zip(self.types, mask, strict=True) if kept)
        return Bonds(self.pairs[mask], self.lengths[mask], types, None if self.images is None else self.images[mask])

    def by_type(self) -> dict[str, IntArray]:
        """Return the indices into ``pairs`` of each bond type, sorted by name."""
        names = np.array(self.types)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


class MeanDistances:
    """Accumulate the mean distances of all pairs in a molecule.

    Distances are averaged instead of positions, because a rotating molecule has no mean structure. One frame is
    sufficient.

    Args:
        species: Atomic numbers (atoms,).
    """

    def __init__(self, species: IntArray) -> None:
        self._species = species
        self._pairs = np.stack(pair_indices(len(species)), axis=1)
        self._distances = PairDistances(len(species))
        self._total = np.zeros(len(self._pairs))
        self._frames = 0

    def add(self, positions: FloatArray) -> None:
        """Add frames with positions (f, atoms, 3), angstrom."""
        for begin in range(0, len(positions), self._distances.chunk):
            piece = positions[begin : begin + self._distances.chunk]
            self._total += self._distances.of(piece).sum(axis=1, dtype=np.float64)
        self._frames += len(positions)

    def bonds(self) -> "Bonds":
        """Return the pairs whose mean distance is within 1.2 times the sum of ASE's natural cutoffs.

        Raises:
            DataError: No pair of atoms is bonded.
        """
        means = self._total / max(self._frames, 1)
        first, second = self._pairs.T
        radii = np.array(natural_cutoffs(Atoms(numbers=self._species), mult=CUTOFF_SCALE))
        bonded = means < radii[first] + radii[second]
        if not bonded.any():
            raise DataError(
                f"no bonds among the {len(self._species)} atoms of the reference: all mean distances exceed the "
                "covalent radii: check the unit of the positions"
            )
        pairs = self._pairs[bonded]
        types = tuple(pair_kind(int(self._species[i]), int(self._species[j])) for i, j in pairs)
        return Bonds(pairs, means[bonded], types)


def find_bonds(species: IntArray, positions: FloatArray) -> Bonds:
    """Find the bonds of a reference in memory with the criterion of `MeanDistances`.

    Args:
        species: Atomic numbers (atoms,).
        positions: Positions (frames, atoms, 3) of the reference, angstrom.

    Raises:
        DataError: No pair of atoms is bonded.
    """
    means = MeanDistances(species)
    means.add(positions)
    return means.bonds()


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Return lengths (frames, bonds) of pairs (bonds, 2) in frames with positions (frames, atoms, 3), angstrom."""
    return np.asarray(np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1))


RING_SIZE = 8  # atoms; larger cycles cannot be flat rings


class BondGraph:
    """Bond graph of a molecule, from which angles, dihedrals and rings are derived.

    Args:
        species: Atomic numbers (atoms,).
        bonds: Bonds of the reference.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        self._symbols = [chemical_symbols[int(number)] for number in species]
        self.graph = networkx.Graph()
        self.graph.add_nodes_from(range(len(species)))
        self.graph.add_edges_from((int(i), int(j)) for i, j in bonds.pairs)

    def angles(self) -> dict[str, IntArray]:
        """Return the triples (k, 3) of bonded atoms by type such as ``C-C-O``, with the vertex in the middle."""
        by_type: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for middle in self.graph:
            ends = sorted(self.graph[middle])
            for place, first in enumerate(ends):
                for last in ends[place + 1 :]:
                    self._sort_in(by_type, (first, middle, last))
        return _arrays(by_type)

    def dihedrals(self) -> dict[str, IntArray]:
        """Return the quadruples (k, 4) of consecutively bonded atoms by type such as ``C-C-O-H``."""
        by_type: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for second, third in self.graph.edges:
            for first in self.graph[second]:
                for last in self.graph[third]:
                    if len({first, second, third, last}) == 4:
                        self._sort_in(by_type, (first, second, third, last))
        return _arrays(by_type)

    def rings(self) -> list[list[int]]:
        """Return the atoms of each small ring in bond order."""
        cycles = networkx.minimum_cycle_basis(self.graph)
        return [_in_order(self.graph, cycle) for cycle in cycles if len(cycle) <= RING_SIZE]

    def rotatable(self) -> dict[str, IntArray]:
        """Return the dihedrals (k, 4) about each rotatable bond, by atom names such as ``C3-C7-O8-C9``.

        A bond counts as rotatable if it is not in a ring and both atoms have other neighbors. Double and triple bonds
        are included, because bond orders are unknown. Each entry contains the dihedral of the named atoms and the
        dihedrals with equivalent neighbors, such as the other two hydrogens of a methyl group.
        """
        colors = self.equivalence()
        bridges = sorted(tuple(sorted(bond)) for bond in networkx.bridges(self.graph))
        dihedrals: dict[str, IntArray] = {}
        for second, third in bridges:
            firsts = [atom for atom in self.graph[second] if atom != third]
            lasts = [atom for atom in self.graph[third] if atom != second]
            if firsts and lasts:
                first, last = self._heaviest(firsts), self._heaviest(lasts)
                named = (first, second, third, last)
                name = "-".join(f"{self._symbols[atom]}{atom}" for atom in named)
                starts, ends = (_alike(atom, among, colors) for atom, among in ((first, firsts), (last, lasts)))
                quadruples = [(start, second, third, end) for start in starts for end in ends]
                dihedrals[name] = np.array(quadruples, dtype=np.int64)
        return dihedrals

    def equivalence(self) -> list[int]:
        """Return a class number for each atom; atoms that are equivalent in elements and bonds share a number.

        The classes are refined by the classes of the neighbors until they no longer change (Morgan 1965).
        """
        colors = _numbered(self._symbols)
        while True:
            refined = _numbered(
                [(colors[atom], sorted(colors[other] for other in self.graph[atom])) for atom in sorted(self.graph)]
            )
            if len(set(refined)) == len(set(colors)):
                return colors
            colors = refined

    def _heaviest(self, atoms: list[int]) -> int:
        """Return the atom with the most neighbors; ties are resolved by atomic number, then by lowest index."""
        return min(atoms, key=lambda atom: (-len(self.graph[atom]), self._symbols[atom] == "H", atom))

    def _sort_in(self, by_type: dict[str, list[tuple[int, ...]]], atoms: tuple[int, ...]) -> None:
        names = tuple(self._symbols[atom] for atom in atoms)
        if (names[::-1], atoms[::-1]) < (names, atoms):
            names, atoms = names[::-1], atoms[::-1]
        by_type["-".join(names)].append(atoms)


def _alike(atom: int, among: Sequence[int], colors: Sequence[int]) -> list[int]:
    """Return an atom, followed by the atoms in ``among`` that have the same color."""
    return [atom, *(other for other in sorted(among) if other != atom and colors[other] == colors[atom])]


def _numbered(keys: Sequence[object]) -> list[int]:
    """Return the rank of each key among the sorted distinct keys."""
    numbers = {key: number for number, key in enumerate(sorted({repr(key) for key in keys}))}
    return [numbers[repr(key)] for key in keys]


def _arrays(by_type: dict[str, list[tuple[int, ...]]]) -> dict[str, IntArray]:
    return {kind: np.array(sorted(atoms), dtype=np.int64) for kind, atoms in sorted(by_type.items())}


def _in_order(graph: "networkx.Graph[int]", cycle: list[int]) -> list[int]:
    inside = graph.subgraph(cycle)
    order = [min(cycle)]
    while len(order) < len(cycle):
        order.append(next(atom for atom in sorted(inside[order[-1]]) if atom not in order))
    return order


def bonded_pairs(structure: Atoms) -> IntArray:
    """Return the pairs (b, 2), i < j, within 1.2 times the sum of ASE's natural cutoffs in one structure."""
    radii = np.array(natural_cutoffs(structure, mult=CUTOFF_SCALE))
    longest = 2 * float(radii.max(initial=0.0))
    near = neighbor_pairs(structure.positions, structure.cell.array, periodic_directions(structure), longest)
    bonded = near.distances < radii[near.first] + radii[near.second]
    pairs = np.sort(np.stack([near.first, near.second], axis=1)[bonded], axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
