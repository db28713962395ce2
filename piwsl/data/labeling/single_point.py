"""Label one structure with a reference method."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads
from typing import Any

import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from piwsl.data.frames import Frame
from piwsl.data.labeling.calculators import needs_fresh_calculator, options_for, reference_calculator
from piwsl.errors import reason_of
from piwsl.runs.scratch import scratch_directory
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """Labels of a structure.

    Attributes:
        energy: Energy, eV.
        forces: Forces (n, 3), eV/angstrom; None if the method provides none.
        stress: Stress (3, 3), eV/angstrom^3; None if the method provides none.
        spread: Spreads of an ensemble; None for a method that is not an ensemble.
    """

    energy: float
    forces: FloatArray | None
    stress: FloatArray | None
    spread: "Spread | None" = None


@dataclass(frozen=True, eq=False)
class Spread:
    """Standard deviations over an ensemble: of the energy in eV, and of the force on each atom (n,) in eV/angstrom."""

    energy: float
    forces: FloatArray

    @classmethod
    def of(cls, calculator: BaseCalculator) -> "Spread | None":
        """Return the spreads among the results of a calculator; None if they are missing or not finite."""
        results = getattr(calculator, "results", {})
        if results.get("energy_std") is None or results.get("forces_std") is None:
            return None
        energy, components = float(results["energy_std"]), np.asarray(results["forces_std"], dtype=np.float64)
        forces = np.sqrt(np.square(components).sum(-1))
        return cls(energy, forces) if np.isfinite(energy) and np.isfinite(forces).all() else None


@dataclass(frozen=True)
class Failure:
    """Reason why a structure has no labels, as one line."""

    reason: str


def single_point(method: str, options: Mapping[str, Any], frame: Frame) -> SinglePoint | Failure:
    """Compute energy, forces and, for a periodic cell, stress of a structure; errors are returned, not raised.

    A calculator whose ``implemented_properties`` lack forces gives the energy only.

    Args:
        method: Name of the method, as in `reference_calculator`.
        options: Calculator options by name.
        frame: Structure to label. Existing labels are ignored.
    """
    try:
        calculator = _calculator(method, options_for(method, options, frame.charge_spin))
        with scratch_directory("label") as scratch:
            if "directory" not in options and hasattr(calculator, "directory"):
                calculator.directory = str(scratch)  # programs that communicate through files need separate folders
            return _labels(calculator, frame)
    except Exception as error:  # quantum-chemistry programs raise any exception; other structures must still be labeled
        return Failure(reason_of(error))


def _calculator(method: str, options: Mapping[str, Any]) -> BaseCalculator:
    if needs_fresh_calculator(method):
        return reference_calculator(method, options)
    return _kept(method, dumps(options, sort_keys=True))


@lru_cache(maxsize=1)
def _kept(method: str, options: str) -> BaseCalculator:
    return reference_calculator(method, loads(options))


def gives_forces(calculator: BaseCalculator) -> bool:
    """Return whether a calculator computes forces, as its ``implemented_properties`` state."""
    return "forces" in getattr(calculator, "implemented_properties", ("forces",))


def _labels(calculator: BaseCalculator, frame: Frame) -> SinglePoint:
    atoms = frame.atoms()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy())
    if not np.isfinite(energy):
        raise ValueError("the energy is not a finite number")
    if not gives_forces(calculator):
        return SinglePoint(energy, None, None)
    forces = np.array(atoms.get_forces(), dtype=np.float64)
    if forces.shape != (len(atoms), 3) or not np.isfinite(forces).all():
        raise ValueError("a force is not a finite number")
    stress: FloatArray | None = None
    if all(frame.pbc):
        try:
            stress = np.array(atoms.get_stress(voigt=False), dtype=np.float64)
        except (PropertyNotImplementedError, NotImplementedError):
            stress = None
    if stress is not None and not np.isfinite(stress).all():
        raise ValueError("the stress is not a finite number")
    return SinglePoint(energy, forces, stress, Spread.of(calculator))
