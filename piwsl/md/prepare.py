"""What happens to a start structure before the first step: masses, minimization, advice."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.optimize import FIRE

from piwsl.errors import ConfigError, DataError
from piwsl.md.protocol import MDProtocol
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.files import atom_name

FREE_HYDROGEN_TIMESTEP = 0.5  # fs; a C-H stretch has a period of 11 fs, and errors grow with the square of the step
MINIMIZED_FORCE = 0.05  # eV/angstrom
MINIMIZATION_STEPS = 2000
_HYDROGEN = 1.008  # amu


def with_hydrogen_mass(atoms: Atoms, mass: float | None) -> Atoms:
    """Hydrogens of a mass (amu), the difference taken from the heavy atom each is bonded to; total masses stay.

    Vibrations of hydrogen become slower, so that a longer time step serves; structure averages stay what they are.

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
    """The structure relaxed by the potential until no force is above 0.05 eV/angstrom, and a line about it.

    Raises:
        DataError: the potential leads to structures that it cannot evaluate.
    """
    from piwsl.interfaces.ase import PiwslCalculator

    relaxed = atoms.copy()
    relaxed.calc = PiwslCalculator(model)
    before = float(relaxed.get_potential_energy())
    optimizer = FIRE(relaxed, logfile=None)
    converged = optimizer.run(fmax=MINIMIZED_FORCE, steps=MINIMIZATION_STEPS)
    after = float(relaxed.get_potential_energy())
    if not np.isfinite(relaxed.positions).all() or not np.isfinite(after):
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
    """Warnings about a protocol for a structure."""
    found = []
    light = atoms.get_masses()[atoms.numbers == 1]
    if len(light):
        longest = FREE_HYDROGEN_TIMESTEP * np.sqrt(light.min() / _HYDROGEN)
        if protocol.timestep > 1.0001 * longest:
            found.append(
                f"a timestep of {protocol.timestep:g} fs is long for hydrogens of {light.min():.1f} amu: "
                f"take {longest:.1f} fs"
                + ("" if protocol.hydrogen_mass else ", or make them heavier (--hydrogen-mass 3)")
            )
    return found
