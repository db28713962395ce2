"""Whether a run and its reference are of one molecule, and how its atoms correspond where their order differs."""

import networkx as nx
import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match

from piwsl.errors import DataError
from piwsl.structures.bonds import Bonds, find_bonds
from piwsl.typing import FloatArray, IntArray


def formula_of(species: IntArray) -> str:
    """Chemical formula of atomic numbers, Hill order."""
    return str(Formula.from_list([chemical_symbols[int(number)] for number in species]).format("hill"))


def check_formula(run: IntArray, reference: IntArray, name: str) -> None:
    """Refuse to compare different molecules.

    Args:
        run, reference: (atoms,) atomic numbers.
        name: of the reference.

    Raises:
        DataError: says what differs.
    """
    if sorted(run) != sorted(reference):
        raise DataError(
            f"run and reference are different molecules: {formula_of(run)} and {formula_of(reference)} "
            f"({name}): name another reference"
        )


def check_order(run: IntArray, reference: IntArray, name: str, mapping: IntArray | None) -> None:
    """Refuse atoms in another order; say so where their bonds tell how they correspond.

    Args:
        run, reference: (atoms,) atomic numbers of the same elements.
        name: of the reference.
        mapping: what `map_atoms` gives for the two.

    Raises:
        DataError: says where the order differs first.
    """
    if (run == reference).all():
        return
    first = int(np.flatnonzero(run != reference)[0])
    hint = "reorder one of them"
    if mapping is not None:
        hint = "their bonds tell how they correspond: accept that with accept_mapping=True"
    raise DataError(
        f"run and reference ({name}) have their atoms in different order: atom {first} is "
        f"{chemical_symbols[int(run[first])]} in the run, {chemical_symbols[int(reference[first])]} in the reference: "
        f"{hint}"
    )


def map_atoms(species: IntArray, positions: FloatArray, reference: IntArray, bonds: Bonds) -> IntArray | None:
    """Which atom of a run stands in the place of each atom of its reference, by the graph of the bonds.

    Two mappings between graphs differ by an exchange of atoms that the graph does not tell apart, such as the
    hydrogens of a methyl group: those are equivalent, and the mapping is unique but for them.

    Args:
        species: (atoms,) atomic numbers of the run.
        positions: (atoms, 3) angstrom, a frame of the run whose bonds are whole.
        reference: (atoms,) atomic numbers of the reference.
        bonds: of the reference.

    Returns:
        (atoms,) indices into the atoms of the run; the order they have already where that fits; None where the bonds
        are not the same.
    """
    if not np.isfinite(positions).all():
        return None
    try:
        own = find_bonds(species, positions[None])
    except DataError:
        return None
    same = {(int(i), int(j)) for i, j in own.pairs} == {(int(i), int(j)) for i, j in bonds.pairs}
    if same and np.array_equal(species, reference):
        return np.arange(len(species))
    graphs = _graph(reference, bonds.pairs), _graph(species, own.pairs)
    matcher = GraphMatcher(*graphs, node_match=categorical_node_match("element", 0))
    if not matcher.is_isomorphic():
        return None
    return np.array([matcher.mapping[atom] for atom in range(len(species))], dtype=np.int64)


def _graph(species: IntArray, pairs: IntArray) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from((atom, {"element": int(number)}) for atom, number in enumerate(species))
    graph.add_edges_from((int(i), int(j)) for i, j in pairs)
    return graph
