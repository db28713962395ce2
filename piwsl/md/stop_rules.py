"""Rules that say when a run is no longer physics: small declared objects, checked every few steps."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import natural_cutoffs, neighbor_list

from piwsl.errors import DataError
from piwsl.md.analysis.bonds import CUTOFF_SCALE
from piwsl.md.analysis.contacts import unbonded_pairs
from piwsl.md.engines.base import Energies, Engine, Snapshot, kinetic_energy, temperature
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import atom_name
from piwsl.typing import FloatArray, IntArray

# Thermal forces at 500 K stay below about 5 eV/angstrom.
LARGE_FORCE = 10.0  # eV/angstrom, worth a warning
HUGE_FORCE = 100.0  # eV/angstrom, no start


@dataclass(frozen=True)
class Violation:
    """What left the range of physics. ``value`` is None where it is not a finite number."""

    rule: str
    value: float | None
    limit: float | None
    atoms: list[dict[str, Any]]  # index (from 0) and element
    step: int
    message: str

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)


class StopRule(Protocol):
    """Looks at the atoms and reports what is wrong, or None."""

    name: str

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The violation in a snapshot of a step."""


class StopRules:
    """The rules of one copy, in the order in which they are asked."""

    def __init__(self, rules: list[StopRule]) -> None:
        self._rules = rules

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The first violation in a snapshot of a step."""
        for rule in self._rules:
            violation = rule.check(snapshot, step)
            if violation is not None:
                return violation
        return None

    def check_reports(self, snapshot: Snapshot, energies: Energies, step: int) -> Violation | None:
        """The same for rules that need energies."""
        return None

    def retire(self, name: str) -> None:
        """Ask a rule no longer."""
        self._rules = [rule for rule in self._rules if rule.name != name]

    def state(self) -> dict[str, float]:
        """What the rules remember."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Take it up again."""


def make_rules(structure: Atoms, protocol: MDProtocol, engine: Engine, model: Path) -> StopRules:
    """The rules of a run."""
    return StopRules(
        [
            FiniteRule(structure),
            BondRule(structure, protocol.bond_tolerance),
            ContactRule(structure, protocol.closest_contact),
            TemperatureRule(structure, engine.degrees_of_freedom, *protocol.temperature_bounds),
        ]
    )


class FiniteRule:
    """Every coordinate and velocity is a finite number."""

    name = "nan"

    def __init__(self, structure: Atoms) -> None:
        self._structure = structure

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The first atom with NaN or infinity."""
        finite = np.isfinite(snapshot.positions) & np.isfinite(snapshot.velocities)
        if finite.all():
            return None
        atom = int(np.flatnonzero(~finite.all(axis=1))[0])
        name = atom_name(self._structure, atom)
        message = f"step {step}: position or velocity of atom {name} is not a finite number"
        return Violation("nan", None, None, _atoms(self._structure, [atom]), step, message)


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
        self._first, self._second = self.bonds[:, 0], self.bonds[:, 1]
        # Engines do not wrap atoms into the cell, so a bond keeps the image that it starts with.
        self._shifts = _nearest_images(structure, self.bonds)
        self.lengths = self._distances(structure.positions) if lengths is None else lengths

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The bond that is off the most."""
        if len(self.bonds) == 0:
            return None
        distances = self._distances(snapshot.positions)
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
        value, limit = float(deviations[worst]), self.tolerance
        return Violation("bond", value, limit, _atoms(self._structure, pair), step, message)

    def _distances(self, positions: FloatArray) -> FloatArray:
        vectors = positions[self._second] - positions[self._first] + self._shifts
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


class ContactRule:
    """No two atoms that are not bonded come closer than a share of the sum of their covalent radii."""

    name = "contact"

    def __init__(self, structure: Atoms, share: float) -> None:
        self._structure = structure
        self.share = share
        self.pairs, radii = unbonded_pairs(structure.numbers, bonded_pairs(structure))
        self.limits = share * radii

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The pair that is closest for its size."""
        if len(self.pairs) == 0:
            return None
        vectors = snapshot.positions[self.pairs[:, 1]] - snapshot.positions[self.pairs[:, 0]]
        if self._structure.pbc.any():
            vectors, _ = find_mic(vectors, self._structure.cell, self._structure.pbc)
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        worst = int((distances / self.limits).argmin())
        if distances[worst] >= self.limits[worst]:
            return None
        pair = [int(index) for index in self.pairs[worst]]
        names = " and ".join(atom_name(self._structure, index) for index in pair)
        message = (
            f"step {step}: atoms {names}, which are not bonded, are {distances[worst]:.2f} angstrom apart "
            f"(limit {self.limits[worst]:.2f})"
        )
        value, limit = float(distances[worst]), float(self.limits[worst])
        return Violation("contact", value, limit, _atoms(self._structure, pair), step, message)


class TemperatureRule:
    """The instantaneous temperature stays between two bounds, K."""

    name = "temperature"

    def __init__(self, structure: Atoms, degrees_of_freedom: int, lowest: float, highest: float) -> None:
        self._structure = structure
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._freedom = degrees_of_freedom
        self.lowest, self.highest = lowest, highest

    def temperature(self, snapshot: Snapshot) -> float:
        """Instantaneous temperature, K."""
        return temperature(kinetic_energy(self._masses, snapshot.velocities), self._freedom)

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """A temperature out of bounds, with the fastest atom for the upper one."""
        now = self.temperature(snapshot)
        if self.lowest <= now <= self.highest:
            return None
        limit, side = (self.highest, "above") if now > self.highest else (self.lowest, "below")
        fastest = int((self._masses * (snapshot.velocities**2).sum(axis=1)).argmax())
        message = f"step {step}: temperature {now:.0f} K is {side} {limit:.0f} K"
        if side == "above":
            message += f"; most energy in atom {atom_name(self._structure, fastest)}"
        atoms = _atoms(self._structure, [fastest]) if side == "above" else []
        return Violation("temperature", now, limit, atoms, step, message)


def check_start(structure: Atoms, energy: float, forces: FloatArray) -> str | None:
    """Look at the forces on the start structure before the first step.

    Returns:
        A warning where a force is large.

    Raises:
        DataError: energy or forces are not finite numbers, or a force is huge; the atom is named.
    """
    sizes = np.sqrt((forces**2).sum(axis=1))
    bad = np.flatnonzero(~np.isfinite(sizes))
    if len(bad) or not np.isfinite(energy):
        where = f"force on atom {atom_name(structure, int(bad[0]))}" if len(bad) else "energy"
        raise DataError(f"start structure: the {where} is not a finite number: the potential cannot be used here")
    largest = int(sizes.argmax())
    text = f"start structure: force of {sizes[largest]:.0f} eV/angstrom on atom {atom_name(structure, largest)}"
    if sizes[largest] > HUGE_FORCE:
        raise DataError(f"{text}: relax the structure, or check that the potential was trained for it")
    return f"{text}: far from a minimum, the run may heat up" if sizes[largest] > LARGE_FORCE else None


def bonded_pairs(structure: Atoms) -> IntArray:
    """Pairs (b, 2) of atoms within 1.2 times the sum of ASE's natural cutoffs, as the analysis counts them; i < j."""
    first, second = neighbor_list("ij", structure, natural_cutoffs(structure, mult=CUTOFF_SCALE))
    pairs = np.stack([first, second], axis=1).astype(np.int64)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def _nearest_images(structure: Atoms, bonds: IntArray) -> FloatArray:
    """What to add to r_j - r_i of each bond for the nearest image, (b, 3) angstrom."""
    vectors = structure.positions[bonds[:, 1]] - structure.positions[bonds[:, 0]]
    nearest, _ = find_mic(vectors, structure.cell, structure.pbc)
    return np.asarray(nearest - vectors)


def _atoms(structure: Atoms, indices: list[int]) -> list[dict[str, Any]]:
    return [{"index": index, "element": structure.symbols[index]} for index in indices]
