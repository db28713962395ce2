"""Rules about where the atoms are: numbers, bonds, contacts, atoms that leave."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic, get_distances
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from vesin import NeighborList

from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.violation import Violation, name_atoms
from piwsl.md.structure import atom_name
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.contacts import unbonded_pairs
from piwsl.structures.metals import are_covalent, contact_scale, is_metal
from piwsl.structures.neighbors import SkinnedNeighbors
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray, IntArray

# Pairs (p, 2), their distances (p,) and the limits of these (p,), angstrom.
Pairs = tuple[IntArray, FloatArray, FloatArray]


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


class AllPairs:
    """Unbonded pairs of a molecule, with a share of the sum of their covalent radii."""

    def __init__(self, structure: Atoms, share: float) -> None:
        self._pairs, radii = unbonded_pairs(structure.numbers, bonded_pairs(structure))
        self._first, self._second = self._pairs[:, 0].copy(), self._pairs[:, 1].copy()
        self._limits = share * radii

    def __call__(self, snapshot: Snapshot) -> Pairs:
        """All of them."""
        vectors = snapshot.positions[self._second] - snapshot.positions[self._first]
        return self._pairs, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), self._limits


class PairSearch:
    """The same for cells and large molecules: of the pairs only those that are closer than their limit."""

    def __init__(self, structure: Atoms, share: float) -> None:
        self._radii = share * covalent_radii[structure.numbers]
        self._count = len(structure)
        bonds = bonded_pairs(structure)
        self._metals = is_metal(structure.numbers) & structure.pbc.any()
        bonds = bonds[~self._metals[bonds].any(axis=1)]
        # In order; the last is larger than any pair.
        self._bonded = np.append(bonds[:, 0] * self._count + bonds[:, 1], self._count**2)
        periodic = bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2])
        self._neighbors = SkinnedNeighbors(2 * float(self._radii.max()), periodic)

    def __call__(self, snapshot: Snapshot) -> Pairs:
        """Those that are too close."""
        edges, vectors = self._neighbors(snapshot.positions, snapshot.cell)
        half = edges.shape[1] // 2  # the rest is the same the other way round
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


# Up to here all pairs of a molecule at once are quicker than a search.
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


class BondRule:
    """No bond is off its reference length by more than a tolerance.

    The criterion of Fu et al., TMLR 2023 ("Forces are not enough"). Bonds are the pairs of the start structure
    within 1.2 times the sum of ASE's natural cutoffs; in a cell those of two non-metals.

    Args:
        structure: start structure.
        tolerance: angstrom.
        lengths: reference length of each bond of ``bonds``, angstrom; those of the start structure by default.
    """

    name = "bond"

    def __init__(self, structure: Atoms, tolerance: float, lengths: FloatArray | None = None) -> None:
        self._structure = structure
        self.tolerance = tolerance
        bonds = bonded_pairs(structure)
        self.bonds = bonds[are_covalent(structure.numbers, bonds)] if structure.pbc.any() else bonds
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
    """No two atoms that are not bonded come closer than a share of the sum of their covalent radii.

    In a cell, all pairs with a metal are looked at, which may come closer: `piwsl.structures.metals.METAL_CONTACT`.
    """

    name = "contact"

    def __init__(self, structure: Atoms, share: float) -> None:
        self._structure = structure
        self.share = share
        # The nearest images of all pairs cost far more than a search.
        all_pairs = len(structure) <= _ALL_PAIRS and not structure.pbc.any()
        self._search = (AllPairs if all_pairs else PairSearch)(structure, share)

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The pair that is closest for its size."""
        pairs, distances, limits = self._search(snapshot)
        if len(pairs) == 0:
            return None
        worst = int((distances / limits).argmin())
        if distances[worst] >= limits[worst]:
            return None
        pair = [int(index) for index in pairs[worst]]
        names = " and ".join(atom_name(self._structure, index) for index in pair)
        # Of metals in cells bonded pairs are looked at, too.
        of_metal = bool(self._structure.pbc.any() and is_metal(self._structure.numbers[pair]).any())
        message = (
            f"step {step}: atoms {names}{'' if of_metal else ', which are not bonded,'} "
            f"are {distances[worst]:.2f} angstrom apart (limit {limits[worst]:.2f})"
        )
        value, limit = float(distances[worst]), float(limits[worst])
        return Violation(self.name, value, limit, "angstrom", name_atoms(self._structure, pair), step, message)


class IsolatedRule:
    """No atoms leave those that they started with.

    Atoms closer than a limit, in a cell at their nearest images, are neighbors, and neighbors of neighbors make a
    part of the structure. Parts that are apart at the start may stay apart, meet, and be one from then on or not;
    what has left is a part that is less than a part of the start.

    Args:
        structure: start structure.
        limit: angstrom.
    """

    name = "isolated"

    def __init__(self, structure: Atoms, limit: float) -> None:
        self._structure, self.limit = structure, limit
        cell = structure.cell.array if structure.pbc.any() else None
        self._start, self._tree = self._parts(Snapshot(structure.positions, structure.positions, cell))
        self._sizes = np.bincount(self._start)

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The atoms that have left. As long as a tree of short distances holds, nothing else is looked at."""
        if (self._tree(snapshot.positions, snapshot.cell) <= self.limit).all():
            return None
        parts, tree = self._parts(snapshot)
        left = self._left(parts)
        if left is None:
            self._tree = tree
            return None
        gap = self._gap(snapshot, left)
        names = " ".join(atom_name(self._structure, int(index)) for index in left[:6])
        more = f" and {len(left) - 6} more" if len(left) > 6 else ""
        message = f"step {step}: {names}{more} {'is' if len(left) == 1 else 'are'} {gap:.2f} angstrom from all others"
        message += f" (limit {self.limit:g})"
        atoms = name_atoms(self._structure, [int(index) for index in left])
        return Violation(self.name, gap, self.limit, "angstrom", atoms, step, message)

    def _left(self, parts: IntArray) -> IntArray | None:
        """Atoms of the smallest part that is less than a part of the start."""
        sizes = np.bincount(parts)
        lowest, highest = np.full(len(sizes), len(parts)), np.zeros(len(sizes), dtype=np.int64)
        np.minimum.at(lowest, parts, self._start)
        np.maximum.at(highest, parts, self._start)
        broken = (lowest == highest) & (sizes < self._sizes[lowest])
        if not broken.any():
            return None
        return np.flatnonzero(parts == np.where(broken, sizes, len(parts) + 1).argmin())

    def _gap(self, snapshot: Snapshot, atoms: IntArray) -> float:
        """Distance between certain atoms and all others."""
        others = np.delete(snapshot.positions, atoms, axis=0)
        box = np.zeros((3, 3)) if snapshot.cell is None else snapshot.cell
        # One after the other: all at once need not fit into memory.
        ours = (snapshot.positions[[atom]] for atom in atoms)
        return min(float(get_distances(one, others, cell=box, pbc=self._structure.pbc)[1].min()) for one in ours)

    def _parts(self, snapshot: Snapshot) -> tuple[IntArray, FixedImages]:
        """The part that each atom (n,) belongs to, and the shortest pairs that hold the parts together."""
        count = len(self._structure)
        box = np.zeros((3, 3)) if snapshot.cell is None else snapshot.cell
        first, second, distances = NeighborList(cutoff=self.limit, full_list=False).compute(
            points=snapshot.positions, box=box, periodic=self._structure.pbc, quantities="ijd"
        )
        order = np.argsort(distances)
        pairs = np.sort(np.stack([first, second], axis=1).astype(np.int64)[order], axis=1)
        # Several images of a pair: the nearest. Atoms are no neighbors of themselves.
        _, nearest = np.unique(pairs[:, 0] * count + pairs[:, 1], return_index=True)
        nearest = nearest[pairs[nearest, 0] != pairs[nearest, 1]]
        pairs, distances = pairs[nearest], distances[order][nearest]
        graph = coo_matrix((distances, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
        labels = np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
        tree = np.stack(minimum_spanning_tree(graph).nonzero(), axis=1).astype(np.int64)
        now = self._structure.copy()
        now.positions = snapshot.positions
        if snapshot.cell is not None:
            now.set_cell(snapshot.cell)
        return labels, FixedImages(now, tree)
