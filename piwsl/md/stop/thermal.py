"""Rules about energies: temperature, drift of the total energy, spread of an ensemble."""

import numpy as np
from ase import Atoms

from piwsl.export.evaluation import BoundPotential
from piwsl.md.engines.base import Snapshot, kinetic_energy, temperature
from piwsl.md.stop.violation import Violation, name_atoms
from piwsl.md.structure import atom_name
from piwsl.trajectories.thermo import Energies


class TemperatureRule:
    """The instantaneous temperature stays between two bounds, K."""

    name = "temperature"

    def __init__(self, structure: Atoms, degrees_of_freedom: int, lowest: float, highest: float) -> None:
        self._structure = structure
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._freedom = degrees_of_freedom
        self.lowest, self.highest = lowest, highest

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """A temperature out of bounds, with the fastest atom for the upper one."""
        now = temperature(kinetic_energy(self._masses, snapshot.velocities), self._freedom)
        if self.lowest <= now <= self.highest:
            return None
        limit, side = (self.highest, "above") if now > self.highest else (self.lowest, "below")
        fastest = int((self._masses * (snapshot.velocities**2).sum(axis=1)).argmax())
        message = f"step {step}: temperature {now:.0f} K is {side} {limit:.0f} K"
        if side == "above":
            message += f"; most energy in atom {atom_name(self._structure, fastest)}"
        atoms = name_atoms(self._structure, [fastest]) if side == "above" else []
        return Violation(self.name, now, limit, "K", atoms, step, message)


class EnergyDriftRule:
    """At constant energy the total energy stays where it was, eV/atom."""

    name = "energy-drift"

    def __init__(self, structure: Atoms, limit: float) -> None:
        self._structure, self.limit = structure, limit
        self.start: float | None = None  # eV

    def begin(self, energies: Energies) -> None:
        """Take the total energy of the start."""
        self.start = energies.potential + energies.kinetic

    def check_energies(self, snapshot: Snapshot, energies: Energies, step: int) -> Violation | None:
        """How far the energy is from that of the start."""
        assert self.start is not None
        total = energies.potential + energies.kinetic
        drift = (total - self.start) / len(self._structure)
        if abs(drift) <= self.limit:
            return None
        masses = self._structure.get_masses()
        fastest = int((masses * (snapshot.velocities**2).sum(axis=1)).argmax())
        message = (
            f"step {step}: total energy is {drift:+.3g} eV/atom off that at the start (limit {self.limit:g}); "
            f"most kinetic energy in atom {atom_name(self._structure, fastest)}"
        )
        atoms = name_atoms(self._structure, [fastest])
        return Violation(self.name, abs(drift), self.limit, "eV/atom", atoms, step, message)


class CommitteeRule:
    """The members of an ensemble agree on the force on every atom: standard deviation in eV/angstrom."""

    name = "committee"

    def __init__(self, structure: Atoms, potential: BoundPotential, limit: float) -> None:
        self._structure, self._potential, self.limit = structure, potential, limit

    def check_energies(self, snapshot: Snapshot, energies: Energies, step: int) -> Violation | None:
        """The atom on which they agree least; an evaluation of all members."""
        spread = self._potential(snapshot.positions, snapshot.cell).forces_std
        assert spread is not None
        sizes = np.sqrt((spread**2).sum(axis=1))
        worst = int(sizes.argmax())  # the first that is not a finite number, where there is one
        if sizes[worst] <= self.limit:
            return None
        message = (
            f"step {step}: members differ by {sizes[worst]:.2f} eV/angstrom in the force on atom "
            f"{atom_name(self._structure, worst)} (limit {self.limit:g})"
        )
        value = float(sizes[worst]) if np.isfinite(sizes[worst]) else None
        atoms = name_atoms(self._structure, [worst])
        return Violation(self.name, value, self.limit, "eV/angstrom", atoms, step, message)
