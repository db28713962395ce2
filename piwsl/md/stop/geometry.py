"""Rules about where the atoms are: numbers, bonds, contacts, atoms that leave."""

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from vesin import NeighborList

from piwsl.md.analysis.contacts import unbonded_pairs
from piwsl.md.engines.base import Energies, Snapshot
from piwsl.md.stop.violation import Violation, name_atoms
from piwsl.md.structure import atom_name, bonded_pairs
from piwsl.typing import FloatArray, IntArray

# Up to here all pairs at once are quicker than a search.
_ALL_PAIRS = 300  # atoms


class FiniteRule:
    """Every coordinate and velocity is a finite number, and every energy that is known."""

    name = "nan"

    def __init__(self, structure: Atoms) -> None:
        self._structure = structure

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The first atom with NaN or infinity."""
        # One sum instead of n tests: it is finite where all terms are.
        if np.isfinite(snapshot.positions.sum() + snapshot.velocities.sum()):
            return None
        finite = np.isfinite(snapshot.positions) & np.isfinite(snapshot.velocities)
        if finite.all():
            return None
        atom = int(np.flatnonzero(~finite.all(axis=1))[0])
        message = f"step {step}: position or velocity of atom {atom_name(self._structure, atom)} is not a finite number"
        return Violation(self.name, None, None, "", name_atoms(self._structure, [atom]), step, message)

    def check_energies(self, snapshot: Snapshot, energies: Energies, step: int) -> Violation | None:
        """An energy that is NaN or infinite."""
        if np.isfinite(energies.potential + energies.kinetic):
            return None
        return Violation(self.name, None, None, "", [], step, f"step {step}: the energy is not a finite number")


class FixedImages:
    """Distances of certain pairs of atoms; in a cell each pair keeps the image that is nearest at the start."""

    def __init__(self, structure: Atoms, pairs: IntArray) -> None:
        self.pairs = pairs
        self._first, self._second = pairs[:, 0], pairs[:, 1]
        self._images: FloatArray | None = None
        if structure.pbc.any():
            vectors = structure.positions[self._second] - structure.positions[self._first]
            nearest, _ = find_mic(vectors, structure.cell, structure.pbc)
            cell = structure.cell.complete().array
            self._images = np.round(np.linalg.solve(cell.T, (nearest - vectors).T).T)

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> FloatArray:
        """Distances (pairs,) in angstrom of positions (n, 3) in a cell (3, 3)."""
        vectors = positions[self._second] - positions[self._first]
        if self._images is not None and cell is not None:
            vectors = vectors + self._images @ cell
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


class BondRule:
    """No bond is off its reference length by more than a tolerance.

    The criterion of Fu et al., TMLR 2023 ("Forces are not enough"). Bonds are the pairs of the start structure
    within 1.2 times the sum of ASE's natural cutoffs.

    Args:
        structure: start structure.
        tolerance: angstrom.
        lengths: reference length of each bond of ``bonds``, angstrom; those of the start structure by default.
    """

    name = "bond"

    def __init__(self, structure: Atoms, tolerance: float, lengths: FloatArray | None = None) -> None:
        self._structure = structure
        self.tolerance = tolerance
        self.bonds = bonded_pairs(structure)
        self._distances = FixedImages(structure, self.bonds)
        cell = structure.cell.array if structure.pbc.any() else None
        self.lengths = self._distances(structure.positions, cell) if lengths is None else lengths

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The bond that is off the most."""
        if len(self.bonds) == 0:
            return None
        distances = self._distances(snapshot.positions, snapshot.cell)
        deviations = np.abs(distances - self.lengths)
        worst = int(deviations.argmax())
        if deviations[worst] <= self.tolerance:
            return None
        pair = [int(index) for index in self.bonds[worst]]
        names = "-".join(atom_name(self._structure, index) for index in pair)
        message = (
            f"step {step}: bond {names} is {distances[worst]:.2f} angstrom long, "
            f"{deviations[worst]:.2f} off its length of {self.lengths[worst]:.2f} (limit {self.tolerance:g})"
        )
        value, atoms = float(deviations[worst]), name_atoms(self._structure, pair)
        return Violation(self.name, value, self.tolerance, "angstrom", atoms, step, message)


class ContactRule:
    """No two atoms that are not bonded come closer than a share of the sum of their covalent radii."""

    name = "contact"

    def __init__(self, structure: Atoms, share: float) -> None:
        self._structure = structure
        self.share = share
        self._few = len(structure) <= _ALL_PAIRS
        pairs, radii = unbonded_pairs(structure.numbers, bonded_pairs(structure)) if self._few else _none()
        self._pairs, self._limits = pairs, share * radii
        if not self._few:
            self._search = PairSearch(structure, share)

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The pair that is closest for its size."""
        pairs, limits = self._pairs, self._limits
        if self._few and len(pairs):
            vectors = snapshot.positions[pairs[:, 1]] - snapshot.positions[pairs[:, 0]]
            if snapshot.cell is not None:
                vectors, _ = find_mic(vectors, snapshot.cell, self._structure.pbc)
            distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        elif not self._few:
            pairs, distances, limits = self._search(snapshot)
        if len(pairs) == 0:
            return None
        worst = int((distances / limits).argmin())
        if distances[worst] >= limits[worst]:
            return None
        pair = [int(index) for index in pairs[worst]]
        names = " and ".join(atom_name(self._structure, index) for index in pair)
        message = (
            f"step {step}: atoms {names}, which are not bonded, are {distances[worst]:.2f} angstrom apart "
            f"(limit {limits[worst]:.2f})"
        )
        value, limit = float(distances[worst]), float(limits[worst])
        return Violation(self.name, value, limit, "angstrom", name_atoms(self._structure, pair), step, message)


class PairSearch:
    """Unbonded pairs of a large structure that may be too close, by a neighbour search."""

    def __init__(self, structure: Atoms, share: float) -> None:
        from ase.data import covalent_radii

        self._pbc = structure.pbc
        self._radii = share * covalent_radii[structure.numbers]
        self._count = len(structure)
        bonds = bonded_pairs(structure)
        self._bonded = bonds[:, 0] * self._count + bonds[:, 1]
        self._search = NeighborList(cutoff=2 * float(self._radii.max()), full_list=False)

    def __call__(self, snapshot: Snapshot) -> tuple[IntArray, FloatArray, FloatArray]:
        """Pairs (p, 2), their distances and their limits."""
        box = np.zeros((3, 3)) if snapshot.cell is None else snapshot.cell
        first, second, distances = self._search.compute(
            points=snapshot.positions, box=box, periodic=self._pbc, quantities="ijd"
        )
        first, second = first.astype(np.int64), second.astype(np.int64)
        low, high = np.minimum(first, second), np.maximum(first, second)
        free = ~np.isin(low * self._count + high, self._bonded) & (low != high)
        pairs = np.stack([low, high], axis=1)[free]
        return pairs, distances[free], self._radii[pairs].sum(1)


class IsolatedRule:
    """No atoms leave the others: the graph of pairs closer than a limit has no more parts than at the start."""

    name = "isolated"

    def __init__(self, structure: Atoms, limit: float) -> None:
        self._structure, self.limit = structure, limit
        start = Snapshot(
            structure.positions, structure.positions, structure.cell.array if structure.pbc.any() else None
        )
        self._parts, _, self._tree = self._graph(start)

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The atoms that have left. As long as a tree of short distances holds, nothing else is looked at."""
        if (self._tree(snapshot.positions, snapshot.cell) <= self.limit).all():
            return None
        parts, labels, self._tree = self._graph(snapshot)
        if parts <= self._parts:
            return None
        alone = np.flatnonzero(labels == np.bincount(labels).argmin())
        others = np.flatnonzero(labels != labels[alone[0]])
        vectors = (snapshot.positions[others][None] - snapshot.positions[alone][:, None]).reshape(-1, 3)
        if snapshot.cell is not None:
            vectors, _ = find_mic(vectors, snapshot.cell, self._structure.pbc)
        gap = float(np.linalg.norm(vectors, axis=1).min())
        names = " ".join(atom_name(self._structure, int(index)) for index in alone[:6])
        more = f" and {len(alone) - 6} more" if len(alone) > 6 else ""
        message = f"step {step}: {names}{more} {'is' if len(alone) == 1 else 'are'} {gap:.2f} angstrom from all others"
        message += f" (limit {self.limit:g})"
        atoms = name_atoms(self._structure, [int(index) for index in alone])
        return Violation(self.name, gap, self.limit, "angstrom", atoms, step, message)

    def _graph(self, snapshot: Snapshot) -> tuple[int, IntArray, FixedImages]:
        """Number of parts, the part of each atom, and pairs that hold the parts together."""
        count = len(self._structure)
        box = np.zeros((3, 3)) if snapshot.cell is None else snapshot.cell
        first, second = NeighborList(cutoff=self.limit, full_list=True).compute(
            points=snapshot.positions, box=box, periodic=self._structure.pbc, quantities="ij"
        )
        graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count)).tocsr()
        parts, labels = connected_components(graph, directed=False)
        tree = np.stack(minimum_spanning_tree(graph).nonzero(), axis=1)
        now = self._structure.copy()
        now.positions = snapshot.positions
        if snapshot.cell is not None:
            now.set_cell(snapshot.cell)
        return parts, labels, FixedImages(now, tree.astype(np.int64))


def _none() -> tuple[IntArray, FloatArray]:
    return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
