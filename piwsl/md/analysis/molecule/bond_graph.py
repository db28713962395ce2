"""What follows from the bonds of a molecule: angles, dihedrals, rings, and bonds that can rotate."""

from collections import defaultdict

import networkx
import numpy as np
from ase.data import chemical_symbols

from piwsl.md.analysis.molecule.bonds import Bonds
from piwsl.typing import IntArray

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

        Such a bond is in no ring, and both its atoms have other neighbours. Bonds of higher order are among them where
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
        """Of neighbours; the first where several are."""
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
