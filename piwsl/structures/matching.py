"""Comparison of the atoms in a run and its reference: formula, order, and a mapping between different orders."""

import networkx as nx
import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match

from piwsl.errors import DataError
from piwsl.structures.bonds import Bonds, find_bonds
from piwsl.typing import FloatArray, IntArray


def formula_of(species: IntArray) -> str:
    """Return the chemical formula of atomic numbers (atoms,) in Hill order."""
    return str(Formula.from_list([chemical_symbols[int(number)] for number in species]).format("hill"))


def check_formula(run: IntArray, reference: IntArray, name: str) -> None:
    """Raise an error if the formulas of run and reference differ.

    Args:
        run: Atomic numbers (atoms,) of the run.
        reference: Atomic numbers (atoms,) of the reference.
        name: Name of the reference, used in messages.

    Raises:
        DataError: The formulas differ.
    """
    if sorted(run) != sorted(reference):
        raise DataError(
            f"run and reference are different molecules: {formula_of(run)} and {formula_of(reference)} "
            f"({name}): choose another reference"
        )


def check_order(run: IntArray, reference: IntArray, name: str, mapping: IntArray | None) -> None:
    """Raise an error if the orders of the atoms differ. The message states whether the bonds define a mapping.

    Args:
        run: Atomic numbers (atoms,) of the run.
        reference: Atomic numbers (atoms,) of the reference, with the same formula.
        name: Name of the reference, used in messages.
        mapping: Result of `map_atoms` for run and reference.

    Raises:
        DataError: The orders differ; the message names the first atom that differs.
    """
    if (run == reference).all():
        return
    first = int(np.flatnonzero(run != reference)[0])
    hint = "reorder the atoms of the run or of the reference"
    if mapping is not None:
        hint = "the bonds determine a mapping: accept it with accept_mapping=True"
    raise DataError(
        f"run and reference ({name}) have their atoms in different orders: atom {first} is "
        f"{chemical_symbols[int(run[first])]} in the run, {chemical_symbols[int(reference[first])]} in the reference: "
        f"{hint}"
    )


def map_atoms(species: IntArray, positions: FloatArray, reference: IntArray, bonds: Bonds) -> IntArray | None:
    """Map the atoms of a reference to the atoms of a run by comparing bond graphs.

    The mapping is unique except for atoms that are equivalent in the graph, such as the hydrogens of a methyl group.

    Args:
        species: Atomic numbers (atoms,) of the run.
        positions: Positions (atoms, 3) of a frame of the run with intact bonds, angstrom.
        reference: Atomic numbers (atoms,) of the reference.
        bonds: Bonds of the reference.

    Returns:
        Indices (atoms,) into the atoms of the run, unchanged if the order already matches; None if the graphs differ.
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
