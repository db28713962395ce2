"""The start structure of a run: masses, minimization, initial velocities, degrees of freedom."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.optimize import FIRE

from piwsl.data.charges import charge_of, given_charge, with_charge
from piwsl.errors import ConfigError, DataError
from piwsl.md.protocol import MDProtocol
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.constraints import fixed_atoms
from piwsl.structures.files import atom_name
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

FREE_HYDROGEN_TIMESTEP = 0.5  # fs; a C-H stretch has a period of 11 fs, and errors grow as the step squared
MINIMIZED_FORCE = 0.05  # eV/angstrom
MINIMIZATION_STEPS = 2000
_HYDROGEN = 1.008  # amu


def prepared(structure: Atoms, protocol: MDProtocol) -> Atoms:
    """Return the normalized structure with the masses, charge and spin that a protocol requires.

    Raises:
        DataError: The structure has constraints that no engine supports, or the run would move fixed atoms.
        ConfigError: See `with_hydrogen_mass`.
    """
    given = given_charge(protocol.charge, protocol.unpaired_electrons)
    structure = with_charge(structure, given.over(charge_of(structure)))
    atoms = with_hydrogen_mass(normalized(structure), protocol.hydrogen_mass)
    fixed = fixed_atoms(atoms)
    if fixed.all():
        raise DataError("structure: all atoms are fixed: remove the constraint from the atoms that should move")
    if fixed.any() and protocol.ensemble == "npt":
        raise DataError(
            "structure: some atoms are fixed, but npt moves all atoms with the cell: choose ensemble='nvt', or remove "
            "the constraint"
        )
    return atoms


def normalized(structure: Atoms) -> Atoms:
    """Return the structure with the content and precision of the start file: coordinates with 8 decimals.

    Its ``info`` contains the stated charge and number of unpaired electrons.

    Raises:
        DataError: See `fixed_atoms` and `piwsl.data.charges.charge_of`.
    """
    fixed = fixed_atoms(structure)
    return Atoms(
        structure.numbers,
        np.round(structure.positions, 8) + 0.0,  # no negative zeros
        masses=np.round(structure.get_masses(), 8),
        cell=np.round(structure.cell.array, 8) + 0.0,
        pbc=structure.pbc,
        constraint=FixAtoms(mask=fixed) if fixed.any() else None,
        info=charge_of(structure).info() or None,
    )


def inertial_masses(atoms: Atoms) -> FloatArray:
    """Return the inertial masses (n,), amu; the mass of a fixed atom is infinite."""
    return np.where(fixed_atoms(atoms), np.inf, atoms.get_masses())


def with_hydrogen_mass(atoms: Atoms, mass: float | None) -> Atoms:
    """Set the mass of hydrogen atoms (amu) and subtract the difference from the heavy atoms they are bonded to.

    Slower hydrogen vibrations permit a longer time step. Structural averages and the total mass do not change.

    Raises:
        ConfigError: A heavy atom would become lighter than the hydrogen atoms bonded to it.
    """
    if mass is None:
        return atoms
    atoms = atoms.copy()
    masses = atoms.get_masses()
    for first, second in bonded_pairs(atoms):
        for light, heavy in ((first, second), (second, first)):
            if atoms.numbers[light] == 1 and atoms.numbers[heavy] != 1:
                masses[heavy] -= mass - masses[light]
                masses[light] = mass
                if masses[heavy] < mass:
                    raise ConfigError(
                        f"hydrogen mass {mass:g} leaves {masses[heavy]:.1f} amu for atom {atom_name(atoms, heavy)}: "
                        "choose a smaller mass"
                    )
    atoms.set_masses(masses)
    return atoms


def minimized(atoms: Atoms, model: Path) -> tuple[Atoms, str]:
    """Relax a structure with its potential until no force exceeds 0.05 eV/angstrom.

    Returns:
        The relaxed structure and a one-line description of the minimization.

    Raises:
        DataError: The minimization reaches a structure that the potential cannot evaluate.
    """
    from piwsl.md.calculator import RunCalculator

    relaxed = atoms.copy()
    relaxed.calc = RunCalculator(model)
    before = after = float(relaxed.get_potential_energy())
    optimizer = FIRE(relaxed, logfile=None)
    try:
        converged = optimizer.run(fmax=MINIMIZED_FORCE, steps=MINIMIZATION_STEPS)
        after = float(relaxed.get_potential_energy())
    except DataError:  # the calculator raises this error for positions that are not finite
        after = np.nan
    if not np.isfinite(after):
        raise DataError("minimization: positions became NaN or infinite: check the training of the potential")
    moved = float(np.linalg.norm(relaxed.positions - atoms.positions, axis=1).max())
    relaxed.calc = None
    end = "" if converged else f" without reaching {MINIMIZED_FORCE:g} eV/angstrom"
    return relaxed, (
        f"minimized in {optimizer.nsteps} steps{end}: energy {after - before:+.3f} eV, "
        f"largest displacement {moved:.2f} angstrom"
    )


def advice(atoms: Atoms, protocol: MDProtocol) -> list[str]:
    """Return warnings about a protocol when it is applied to a structure."""
    warnings = []
    light = atoms.get_masses()[atoms.numbers == 1]
    if len(light):
        longest = FREE_HYDROGEN_TIMESTEP * np.sqrt(light.min() / _HYDROGEN)
        if protocol.timestep > 1.0001 * longest:
            warnings.append(
                f"a time step of {protocol.timestep:g} fs is too long for hydrogen atoms of {light.min():.1f} amu: "
                f"use at most {longest:.1f} fs"
                + ("" if protocol.hydrogen_mass else ", or heavier hydrogen atoms (hydrogen_mass=3)")
            )
    return warnings


def thermal_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> FloatArray:
    """Draw Maxwell-Boltzmann velocities (n, 3), angstrom/fs, without overall translation and rotation.

    The expected kinetic energy matches `degrees_of_freedom` at the temperature. Velocities are not rescaled, so that
    repeated draws sample the canonical ensemble. Fixed atoms are at rest; if there are any, overall motion is kept.
    """
    masses = inertial_masses(atoms)[:, None]
    velocities = rng.normal(size=(len(atoms), 3)) * np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses)
    return without_overall_motion(atoms, velocities)


def without_overall_motion(atoms: Atoms, velocities: FloatArray) -> FloatArray:
    """Remove overall translation and, without a cell, rotation from velocities (n, 3).

    Velocities of structures with fixed atoms are returned unchanged.
    """
    if fixed_atoms(atoms).any():
        return velocities
    masses = atoms.get_masses()[:, None]
    velocities = velocities - (masses * velocities).sum(0) / masses.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - (masses * atoms.positions).sum(0) / masses.sum()
        momentum = (masses * np.cross(arms, velocities)).sum(0)
        # The pseudo-inverse ignores the axis of a linear molecule, which has no moment of inertia.
        velocities = velocities - np.cross(np.linalg.pinv(_inertia(arms, masses), rcond=1e-9) @ momentum, arms)
    return np.asarray(velocities, dtype=np.float64)


def degrees_of_freedom(atoms: Atoms, conserves_momentum: bool) -> int:
    """Return the number of kinetic degrees of freedom: 3n, minus overall motion if the dynamics conserves momentum.

    Fixed atoms do not count. A structure with fixed atoms does not conserve momentum.
    """
    fixed = fixed_atoms(atoms)
    total = 3 * int((~fixed).sum())
    if not conserves_momentum or fixed.any():
        return total
    total -= 3
    if not atoms.pbc.any():
        masses = atoms.get_masses()[:, None]
        arms = atoms.positions - (masses * atoms.positions).sum(0) / masses.sum()
        total -= int(np.linalg.matrix_rank(_inertia(arms, masses), tol=1e-6, hermitian=True))
    return max(total, 1)


def _inertia(arms: FloatArray, masses: FloatArray) -> FloatArray:
    """Return the inertia tensor (3, 3), amu angstrom^2."""
    squares = (masses * arms**2).sum()
    return np.asarray(squares * np.eye(3) - (masses * arms).T @ arms)
