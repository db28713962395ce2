"""Stop rules based on positions: finite numbers, cell, bonds, separated atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import find_mic, get_distances
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from piwsl.errors import ConfigError
from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.rule import BuiltInRule, Phase, Violation, name_atoms
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.cells import periodic_directions
from piwsl.structures.files import atom_name
from piwsl.structures.metals import are_covalent
from piwsl.structures.neighbors import PairSearch
from piwsl.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from piwsl.trajectories.thermo import Energies


class FiniteRule(BuiltInRule):
    """Stop rule that requires coordinates, velocities and energies to be finite numbers."""

    name = "nan"
    help = "a coordinate, a velocity or an energy is not a finite number"
    required = True

    def __init__(self, structure: Atoms) -> None:
        self._structure = structure

    @classmethod
    def parse(cls, text: str) -> tuple[float, ...]:
        """See `BuiltInRule`."""
        raise ConfigError(f"stop rule {cls.name} has no limit: give only the name")

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report the first atom whose position or velocity is not finite, or an energy that is not finite."""
        # One sum instead of n tests: the sum is finite only if all terms are finite.
        if not np.isfinite(snapshot.positions.sum() + snapshot.velocities.sum()):
            finite = np.isfinite(snapshot.positions) & np.isfinite(snapshot.velocities)
            if not finite.all():
                atom = int(np.flatnonzero(~finite.all(axis=1))[0])
                return Violation(
                    rule=self.name,
                    atoms=name_atoms(self._structure, [atom]),
                    step=step,
                    message=f"step {step}: position or velocity of atom {atom_name(self._structure, atom)} "
                    "is not a finite number",
                )
        if energies is None or np.isfinite(energies.potential + energies.kinetic):
            return None
        return Violation(rule=self.name, step=step, message=f"step {step}: the energy is not a finite number")


class CellRule(BuiltInRule):
    """Stop rule that requires the cell volume to stay within a factor of its initial value.

    If the potential lacks repulsion, the barostat can collapse the cell, and the number of neighbors diverges.

    Args:
        structure: Start structure.
        factor: Largest ratio between the current and the initial volume, or its inverse; above 1.
    """

    name = "cell"
    default = 2.0
    active = "npt"
    help = "the cell volume differs from its initial value by more than this factor"

    def __init__(self, structure: Atoms, factor: float) -> None:
        self._start, self.factor = float(structure.get_volume()), factor

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """See `BuiltInRule`."""
        return phase.ensemble == "npt"

    @classmethod
    def reason_against(cls, ensemble: str) -> str | None:
        """See `BuiltInRule`."""
        return None if ensemble == "npt" else f"the cell is constant in {ensemble}: omit the rule, or use npt"

    @classmethod
    def parse(cls, text: str) -> tuple[float, ...]:
        """See `BuiltInRule`; the factor must be above 1."""
        (factor,) = cls._positive(text, [text], f"{cls.name}:{cls.default:g}")
        if factor <= 1:
            raise ConfigError(f"stop rule {cls.name}:{text}: give a factor above 1 such as {cls.name}:{cls.default:g}")
        return (factor,)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report a cell volume that is out of range."""
        assert snapshot.cell is not None
        volume = abs(float(np.linalg.det(snapshot.cell)))
        if self._start / self.factor <= volume <= self._start * self.factor:
            return None
        return Violation(
            rule=self.name,
            value=volume / self._start,
            limit=self.factor if volume > self._start else 1 / self.factor,
            step=step,
            message=f"step {step}: the cell volume is {volume:.4g} angstrom^3, and was {self._start:.4g} at the start "
            f"(limit: a factor of {self.factor:g})",
        )


class BondRule(BuiltInRule):
    """Stop rule that limits the deviation of each bond from its reference length.

    This is the criterion of Fu et al., TMLR 2023 ("Forces are not enough"). Bonds are pairs in the start structure
    that are closer than 1.2 times the sum of their ASE natural cutoffs. In a cell, only bonds between two non-metals
    are checked.

    Args:
        structure: Start structure.
        tolerance: Largest deviation from the reference length, angstrom.
        lengths: Reference length of each bond in ``bonds``, angstrom; the default is the length in the start structure.
    """

    name = "bond"
    unit = "A"
    default = 0.5
    help = "a bond length (in a cell, between two non-metals) differs from its initial value by more than the limit"

    def __init__(self, structure: Atoms, tolerance: float, lengths: FloatArray | None = None) -> None:
        self._structure = structure
        self.tolerance = tolerance
        bonds = bonded_pairs(structure)
        self.bonds = bonds[are_covalent(structure.numbers, bonds)] if structure.pbc.any() else bonds
        self._distances = FixedImages(structure, self.bonds)
        cell = structure.cell.array if structure.pbc.any() else None
        self.lengths = self._distances(structure.positions, cell) if lengths is None else lengths

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report the bond with the largest deviation."""
        if len(self.bonds) == 0:
            return None
        distances = self._distances(snapshot.positions, snapshot.cell)
        deviations = np.abs(distances - self.lengths)
        worst = int(deviations.argmax())
        if deviations[worst] <= self.tolerance:
            return None
        pair = [int(index) for index in self.bonds[worst]]
        names = "-".join(atom_name(self._structure, index) for index in pair)
        return Violation(
            rule=self.name,
            value=float(deviations[worst]),
            limit=self.tolerance,
            unit="angstrom",
            atoms=name_atoms(self._structure, pair),
            step=step,
            message=f"step {step}: bond {names} is {distances[worst]:.2f} angstrom long, "
            f"{deviations[worst]:.2f} away from its initial {self.lengths[worst]:.2f} (limit {self.tolerance:g})",
        )


class FixedImages:
    """Distances of fixed pairs of atoms; in a cell, each pair keeps the periodic image that was initially nearest.

    Args:
        structure: Structure with the initial positions and cell.
        pairs: Atom indices (p, 2).
    """

    def __init__(self, structure: Atoms, pairs: IntArray) -> None:
        self._first, self._second = pairs[:, 0], pairs[:, 1]
        self._images: FloatArray | None = None
        if structure.pbc.any():
            vectors = structure.positions[self._second] - structure.positions[self._first]
            nearest, _ = find_mic(vectors, structure.cell, structure.pbc)
            cell = structure.cell.complete().array
            self._images = np.round(np.linalg.solve(cell.T, (nearest - vectors).T).T)

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> FloatArray:
        """Return the distances (p,) in angstrom for positions (n, 3) and a cell (3, 3) in angstrom."""
        vectors = positions[self._second] - positions[self._first]
        if self._images is not None and cell is not None:
            vectors = vectors + self._images @ cell
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


class IsolatedRule(BuiltInRule):
    """Stop rule that reports atoms that separate from their initial fragment.

    Two atoms are neighbors if their distance, in a cell between nearest images, is below a limit. A fragment is a set
    of atoms that are connected through neighbors. Fragments of the start structure may stay apart, meet and separate
    again. The rule reports a fragment that contains only some of the atoms of one initial fragment.

    Args:
        structure: Start structure.
        limit: Largest distance between neighbors, angstrom.
    """

    name = "isolated"
    unit = "A"
    default = 3.0
    active = "one molecule in vacuum"
    help = "atoms are farther than the limit from all other atoms of their initial fragment"

    def __init__(self, structure: Atoms, limit: float) -> None:
        self._structure, self.limit = structure, limit
        self._search, self._pbc = PairSearch(limit), periodic_directions(structure)
        cell = structure.cell.array if structure.pbc.any() else None
        self._start, self._tree = self._fragments(Snapshot(structure.positions, structure.positions, cell))
        self._sizes = np.bincount(self._start)

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """See `BuiltInRule`."""
        return not phase.structure.pbc.any() and _is_one_molecule(phase.structure)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report separated atoms. A neighbor search runs only if the tree of short distances is broken."""
        if (self._tree(snapshot.positions, snapshot.cell) <= self.limit).all():
            return None
        fragments, tree = self._fragments(snapshot)
        left = self._separated(fragments)
        if left is None:
            self._tree = tree
            return None
        gap = self._gap(snapshot, left)
        names = " ".join(atom_name(self._structure, int(index)) for index in left[:6])
        more = f" and {len(left) - 6} more" if len(left) > 6 else ""
        return Violation(
            rule=self.name,
            value=gap,
            limit=self.limit,
            unit="angstrom",
            atoms=name_atoms(self._structure, [int(index) for index in left]),
            step=step,
            message=f"step {step}: {names}{more} {'is' if len(left) == 1 else 'are'} {gap:.2f} angstrom from all "
            f"other atoms (limit {self.limit:g})",
        )

    def _separated(self, fragments: IntArray) -> IntArray | None:
        """Return the atoms of the smallest fragment that is only a part of an initial fragment, or None."""
        sizes = np.bincount(fragments)
        lowest, highest = np.full(len(sizes), len(fragments)), np.zeros(len(sizes), dtype=np.int64)
        np.minimum.at(lowest, fragments, self._start)
        np.maximum.at(highest, fragments, self._start)
        broken = (lowest == highest) & (sizes < self._sizes[lowest])
        if not broken.any():
            return None
        return np.flatnonzero(fragments == np.where(broken, sizes, len(fragments) + 1).argmin())

    def _gap(self, snapshot: Snapshot, atoms: IntArray) -> float:
        """Return the shortest distance between given atoms and all other atoms, angstrom."""
        others = np.delete(snapshot.positions, atoms, axis=0)
        box = np.zeros((3, 3)) if snapshot.cell is None else snapshot.cell
        # One atom at a time, because the distances of all pairs may not fit into memory.
        return min(
            float(get_distances(snapshot.positions[[atom]], others, cell=box, pbc=self._structure.pbc)[1].min())
            for atom in atoms
        )

    def _fragments(self, snapshot: Snapshot) -> tuple[IntArray, FixedImages]:
        """Return the fragment number of each atom (n,), and the shortest pairs that connect each fragment."""
        count = len(self._structure)
        near = self._search(snapshot.positions, snapshot.cell, self._pbc)
        order = np.argsort(near.distances)
        pairs = np.sort(np.stack([near.first, near.second], axis=1)[order], axis=1)
        # Keep the nearest of several images of a pair, and remove pairs of an atom with its own image.
        _, nearest = np.unique(pairs[:, 0] * count + pairs[:, 1], return_index=True)
        nearest = nearest[pairs[nearest, 0] != pairs[nearest, 1]]
        pairs, distances = pairs[nearest], near.distances[order][nearest]
        graph = coo_matrix((distances, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
        labels = np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
        tree = np.stack(minimum_spanning_tree(graph).nonzero(), axis=1).astype(np.int64)
        current = self._structure.copy()
        current.positions = snapshot.positions
        if snapshot.cell is not None:
            current.set_cell(snapshot.cell)
        return labels, FixedImages(current, tree)


def _is_one_molecule(structure: Atoms) -> bool:
    """Return whether bonds connect all atoms."""
    bonds, count = bonded_pairs(structure), len(structure)
    graph = coo_matrix(([1] * len(bonds), (bonds[:, 0], bonds[:, 1])), shape=(count, count))
    return bool(connected_components(graph, directed=False)[0] == 1)
