"""Stop rules based on energies: temperature, drift of the total energy, disagreement in an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from piwsl.data.charges import charge_of
from piwsl.errors import ConfigError
from piwsl.md.engines.base import Snapshot, kinetic_energy, temperature
from piwsl.md.stop.rule import BuiltInRule, Phase, RuleFactory, Violation, name_atoms
from piwsl.structures.cells import periodic_directions
from piwsl.structures.files import atom_name

if TYPE_CHECKING:
    from piwsl.export.evaluation import BoundPotential
    from piwsl.trajectories.thermo import Energies

# The kinetic energy of a diatomic molecule exceeds ten times its mean once in 10^10 independent draws.
HOTTER = 10.0


class TemperatureRule(BuiltInRule):
    """Stop rule that requires the instantaneous temperature to stay between two bounds, K."""

    name = "temperature"
    unit = "K"
    help = "the instantaneous temperature is above the limit, or outside the range LOW-HIGH"

    def __init__(self, structure: Atoms, degrees_of_freedom: int, lowest: float, highest: float) -> None:
        self._structure = structure
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._freedom = degrees_of_freedom
        self.lowest, self.highest = lowest, highest

    @classmethod
    def default_limit(cls) -> str:
        """See `BuiltInRule`; the limit depends on the protocol."""
        return "ten times the set temperature"

    @classmethod
    def parse(cls, text: str) -> tuple[float, ...]:
        """See `BuiltInRule`; two limits are the lowest and the highest temperature."""
        return cls._positive(text, text.split("-"), "temperature:2000, or temperature:100-900")

    @classmethod
    def factory(cls, phase: Phase, limits: tuple[float, ...]) -> RuleFactory:
        """See `BuiltInRule`."""
        limits = limits or (HOTTER * phase.temperature,)
        lowest, highest = limits if len(limits) == 2 else (0.0, limits[0])
        return lambda: cls(phase.structure, phase.degrees_of_freedom, lowest, highest)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report a temperature out of bounds; above the upper bound, also the atom with most kinetic energy."""
        current = temperature(kinetic_energy(self._masses, snapshot.velocities), self._freedom)
        if self.lowest <= current <= self.highest:
            return None
        limit, side = (self.highest, "above") if current > self.highest else (self.lowest, "below")
        fastest = int((self._masses * (snapshot.velocities**2).sum(axis=1)).argmax())
        message = f"step {step}: temperature {current:.0f} K is {side} {limit:.0f} K"
        if side == "above":
            message += f"; most energy in atom {atom_name(self._structure, fastest)}"
        return Violation(
            rule=self.name,
            value=current,
            limit=limit,
            unit=self.unit,
            atoms=name_atoms(self._structure, [fastest]) if side == "above" else [],
            step=step,
            message=message,
        )


class EnergyDriftRule(BuiltInRule):
    """Stop rule for nve that requires the total energy per atom to stay near its initial value, eV/atom."""

    name = "energy-drift"
    unit = "eV/atom"
    default = 0.05
    active = "nve"
    help = "the total energy per atom has drifted by more than the limit; checked at report intervals"

    _KEY = "total energy at the start"  # in restart states

    def __init__(self, structure: Atoms, limit: float) -> None:
        self._structure, self.limit = structure, limit
        self._start: float | None = None  # eV

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """See `BuiltInRule`."""
        return phase.ensemble == "nve"

    @classmethod
    def reason_against(cls, ensemble: str) -> str | None:
        """See `BuiltInRule`."""
        return None if ensemble == "nve" else f"energy is not constant in {ensemble}: omit the rule, or use nve"

    @property
    def needs_start(self) -> bool:
        """Whether the initial total energy is missing."""
        return self._start is None

    def begin(self, energies: Energies) -> None:
        """Store the initial total energy."""
        self._start = energies.potential + energies.kinetic

    def state(self) -> dict[str, float]:
        """Return the initial total energy, eV."""
        return {} if self._start is None else {self._KEY: self._start}

    def restore(self, state: dict[str, float]) -> None:
        """Restore the initial total energy of the continued run."""
        self._start = state.get(self._KEY)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Report a drift above the limit, and the atom with most kinetic energy."""
        if energies is None:
            return None
        assert self._start is not None
        total = energies.potential + energies.kinetic
        drift = (total - self._start) / len(self._structure)
        if abs(drift) <= self.limit:
            return None
        masses = self._structure.get_masses()
        fastest = int((masses * (snapshot.velocities**2).sum(axis=1)).argmax())
        return Violation(
            rule=self.name,
            value=abs(drift),
            limit=self.limit,
            unit=self.unit,
            atoms=name_atoms(self._structure, [fastest]),
            step=step,
            message=f"step {step}: total energy has drifted by {drift:+.3g} eV/atom since the start "
            f"(limit {self.limit:g}); most kinetic energy in atom {atom_name(self._structure, fastest)}",
        )


class CommitteeRule(BuiltInRule):
    """Stop rule that limits the standard deviation of the force on any atom over the members of an ensemble."""

    name = "committee"
    unit = "eV/A"
    default = 0.3
    active = "when named"
    help = "the members differ in the force on an atom by more than the limit; checked at report intervals"

    def __init__(self, structure: Atoms, potential: BoundPotential, limit: float) -> None:
        self._structure, self._potential, self.limit = structure, potential, limit

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """Return False: the rule must be named, because every check evaluates all members again."""
        return False

    @classmethod
    def factory(cls, phase: Phase, limits: tuple[float, ...]) -> RuleFactory:
        """See `BuiltInRule`; the replicas share one potential."""
        potential = _committee(phase)
        limit = limits[0] if limits else cls.default
        return lambda: cls(phase.structure, potential, limit)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Evaluate all members and report the atom whose force has the largest standard deviation."""
        if energies is None:
            return None
        deviation = self._potential(snapshot.positions, snapshot.cell).forces_std
        assert deviation is not None
        sizes = np.sqrt((deviation**2).sum(axis=1))
        worst = int(sizes.argmax())  # argmax returns the first NaN if there is one
        if sizes[worst] <= self.limit:
            return None
        return Violation(
            rule=self.name,
            value=float(sizes[worst]) if np.isfinite(sizes[worst]) else None,
            limit=self.limit,
            unit="eV/angstrom",
            atoms=name_atoms(self._structure, [worst]),
            step=step,
            message=f"step {step}: members of the ensemble differ by {sizes[worst]:.2f} eV/angstrom in the force on "
            f"atom {atom_name(self._structure, worst)} (limit {self.limit:g})",
        )


def _committee(phase: Phase) -> BoundPotential:
    """Load the potential of a run for one structure at a time.

    Raises:
        ConfigError: The potential is a single model.
    """
    from piwsl.export.evaluation import bind
    from piwsl.export.loading import load_verified
    from piwsl.export.replica_evaluation import OneReplica, bind_replicas

    potential = load_verified(phase.model)
    if potential.members < 2:
        raise ConfigError(
            f"stop rule committee: {phase.model} is a single model: use an exported ensemble, or omit the rule"
        )
    if potential.copies > 1:
        return OneReplica(bind_replicas(potential, phase.structure.numbers))
    return bind(potential, phase.structure.numbers, periodic_directions(phase.structure), charge_of(phase.structure))
