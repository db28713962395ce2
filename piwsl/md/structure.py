"""The structure that a run starts from: masses, minimization, initial velocities, degrees of freedom."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.optimize import FIRE

from piwsl.errors import ConfigError, DataError
from piwsl.md.protocol import MDProtocol
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.constraints import fixed_atoms
from piwsl.structures.files import atom_name
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

FREE_HYDROGEN_TIMESTEP = 0.5  # fs; a C-H stretch has a period of 11 fs, and errors grow with the square of the step
MINIMIZED_FORCE = 0.05  # eV/angstrom
MINIMIZATION_STEPS = 2000
_HYDROGEN = 1.008  # amu


def prepared(structure: Atoms, protocol: MDProtocol) -> Atoms:
    """Return the structure that a run of a protocol uses: normalized, with the masses of the protocol.

    Raises:
        DataError: the structure holds coordinates in a way that no engine keeps, or the run would move fixed atoms.
        ConfigError: see `with_hydrogen_mass`.
    """
    atoms = with_hydrogen_mass(normalized(structure), protocol.hydrogen_mass)
    fixed = fixed_atoms(atoms)
    if fixed.all():
        raise DataError("structure: all atoms are fixed: free those that are to move")
    if fixed.any() and protocol.ensemble == "npt":
        raise DataError(
            "structure: npt moves all atoms with the cell, but some are fixed: choose ensemble='nvt', or remove the "
            "constraint"
        )
    return atoms


def normalized(structure: Atoms) -> Atoms:
    """Return the structure as files store it: coordinates of 8 decimals, nothing but what the run needs.

    Raises:
        DataError: see `fixed_atoms`.
    """
    fixed = fixed_atoms(structure)
    return Atoms(
        structure.numbers,
        np.round(structure.positions, 8) + 0.0,  # no negative zeros
        masses=np.round(structure.get_masses(), 8),
        cell=np.round(structure.cell.array, 8) + 0.0,
        pbc=structure.pbc,
        constraint=FixAtoms(mask=fixed) if fixed.any() else None,
    )


def inertial_masses(atoms: Atoms) -> FloatArray:
    """Return the masses (n,) by which forces accelerate atoms, amu: infinity for fixed atoms."""
    return np.where(fixed_atoms(atoms), np.inf, atoms.get_masses())


def with_hydrogen_mass(atoms: Atoms, mass: float | None) -> Atoms:
    """Give hydrogens a mass (amu) and subtract the difference from the heavy atoms they are bonded to.

    Vibrations of hydrogen become slower, so that a longer time step is possible; averages over structures and the
    total mass do not change.

    Raises:
        ConfigError: a heavy atom would become lighter than its hydrogens.
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
                        "choose a lower one"
                    )
    atoms.set_masses(masses)
    return atoms


def minimized(atoms: Atoms, model: Path) -> tuple[Atoms, str]:
    """Relax a structure with its potential until no force is above 0.05 eV/angstrom; return it and a line about it.

    Raises:
        DataError: the potential leads to structures that it cannot evaluate.
    """
    from piwsl.interfaces.ase import PiwslCalculator

    relaxed = atoms.copy()
    relaxed.calc = PiwslCalculator(model)
    before = after = float(relaxed.get_potential_energy())
    optimizer = FIRE(relaxed, logfile=None)
    try:
        converged = optimizer.run(fmax=MINIMIZED_FORCE, steps=MINIMIZATION_STEPS)
        after = float(relaxed.get_potential_energy())
    except DataError:  # of the calculator, for positions that are not finite
        after = np.nan
    if not np.isfinite(after):
        raise DataError(
            "minimization: the potential leads to positions that are not finite numbers: check its training"
        )
    moved = float(np.linalg.norm(relaxed.positions - atoms.positions, axis=1).max())
    relaxed.calc = None
    end = "" if converged else f", not below {MINIMIZED_FORCE:g} eV/angstrom yet"
    return relaxed, (
        f"minimized in {optimizer.nsteps} steps{end}: energy {after - before:+.3f} eV, "
        f"largest displacement {moved:.2f} angstrom"
    )


def advice(atoms: Atoms, protocol: MDProtocol) -> list[str]:
    """Return warnings about a protocol for a structure."""
    warnings = []
    light = atoms.get_masses()[atoms.numbers == 1]
    if len(light):
        longest = FREE_HYDROGEN_TIMESTEP * np.sqrt(light.min() / _HYDROGEN)
        if protocol.timestep > 1.0001 * longest:
            warnings.append(
                f"a timestep of {protocol.timestep:g} fs is long for hydrogens of {light.min():.1f} amu: "
                f"take {longest:.1f} fs"
                + ("" if protocol.hydrogen_mass else ", or make them heavier (hydrogen_mass=3)")
            )
    return warnings


def thermal_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> FloatArray:
    """Draw Maxwell-Boltzmann velocities (n, 3), angstrom/fs, without overall translation and rotation.

    Their expected kinetic energy is that of `degrees_of_freedom` at the temperature; it is not rescaled, so
    repeated draws are canonical. Fixed atoms are at rest, and beside them overall motion is not removed.
    """
    masses = inertial_masses(atoms)[:, None]
    velocities = rng.normal(size=(len(atoms), 3)) * np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses)
    return without_overall_motion(atoms, velocities)


def without_overall_motion(atoms: Atoms, velocities: FloatArray) -> FloatArray:
    """Subtract overall translation and, without a cell, rotation from velocities (n, 3); not beside fixed atoms."""
    if fixed_atoms(atoms).any():
        return velocities
    masses = atoms.get_masses()[:, None]
    velocities = velocities - (masses * velocities).sum(0) / masses.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - (masses * atoms.positions).sum(0) / masses.sum()
        momentum = (masses * np.cross(arms, velocities)).sum(0)
        # The pseudo-inverse leaves out the axis of a linear molecule, about which nothing turns.
        velocities = velocities - np.cross(np.linalg.pinv(_inertia(arms, masses), rcond=1e-9) @ momentum, arms)
    return np.asarray(velocities, dtype=np.float64)


def degrees_of_freedom(atoms: Atoms, conserves_momentum: bool) -> int:
    """Return the kinetic degrees of freedom: 3n, without overall motion where it is conserved and was removed.

    Fixed atoms have none, and beside them momentum is not conserved.
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
    """Return the tensor of inertia (3, 3), amu angstrom^2."""
    squares = (masses * arms**2).sum()
    return np.asarray(squares * np.eye(3) - (masses * arms).T @ arms)
