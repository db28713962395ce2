"""Check of the energy and the forces of the start structure."""

import numpy as np
from ase import Atoms
from ase.geometry import get_distances

from piwsl.data.frames import LARGEST_ENERGY
from piwsl.errors import DataError
from piwsl.structures.constraints import fixed_atoms
from piwsl.structures.files import atom_name
from piwsl.typing import FloatArray

# Thermal forces at 500 K stay below about 5 eV/angstrom.
LARGE_FORCE = 10.0  # eV/angstrom, causes a warning
HUGE_FORCE = 100.0  # eV/angstrom, prevents the run


def check_start(structure: Atoms, energy: float, forces: FloatArray) -> str | None:
    """Check the energy of the start structure and the forces on its free atoms before the first step.

    Args:
        structure: Start structure.
        energy: Potential energy, eV.
        forces: Forces (n, 3), eV/angstrom.

    Returns:
        A warning if a force is large, otherwise None.

    Raises:
        DataError: The energy or a force is not finite or is too large; the message names the atom and its nearest
            neighbor.
    """
    sizes = np.sqrt((forces**2).sum(axis=1))
    bad = np.flatnonzero(~np.isfinite(sizes))
    if len(bad) or not np.isfinite(energy):
        where = f"force on atom {atom_name(structure, int(bad[0]))}" if len(bad) else "energy"
        raise DataError(f"start structure: the {where} is not a finite number: check the structure and the potential")
    if abs(energy) > LARGEST_ENERGY:
        raise DataError(
            f"start structure: an energy of {energy:.3g} eV is beyond {LARGEST_ENERGY:.0e} eV: check the reference "
            "energies of the potential"
        )
    sizes[fixed_atoms(structure)] = 0.0
    largest = int(sizes.argmax())
    text = f"start structure: force of {sizes[largest]:.0f} eV/angstrom on atom {atom_name(structure, largest)}"
    if sizes[largest] <= LARGE_FORCE:
        return None
    text += _nearest(structure, largest)
    if sizes[largest] > HUGE_FORCE:
        raise DataError(f"{text}: relax the structure, or check that the potential was trained for it")
    return f"{text}: the run may heat up because the structure is far from a minimum: relax it with minimize=True"


def _nearest(structure: Atoms, atom: int) -> str:
    """Return a phrase that names the nearest neighbor of an atom and its distance."""
    if len(structure) < 2:
        return ""
    others = np.delete(np.arange(len(structure)), atom)
    positions = structure.positions
    _, distances = get_distances(positions[[atom]], positions[others], cell=structure.cell, pbc=structure.pbc)
    nearest = int(distances[0].argmin())
    return f", {distances[0][nearest]:.2f} angstrom from {atom_name(structure, int(others[nearest]))}"
