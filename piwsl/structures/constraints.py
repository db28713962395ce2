"""Fixed atoms of a structure, from its constraints."""

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from piwsl.errors import DataError
from piwsl.structures.files import atom_name
from piwsl.typing import BoolArray


def fixed_atoms(atoms: Atoms, where: str = "structure") -> BoolArray:
    """Return the mask (n,) of atoms fixed by the constraints of a structure.

    An atom also counts as fixed if all of its coordinates are fixed separately (`FixCartesian`, `FixScaled`,
    ``move_mask`` of three columns).

    Raises:
        DataError: The structure has another constraint, or only some coordinates of an atom are fixed.
    """
    held = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        if isinstance(constraint, FixAtoms):
            held[constraint.index] = True
        elif name in ("FixCartesian", "FixScaled"):
            held[constraint.index] |= np.asarray(constraint.mask, dtype=bool)
        else:
            raise DataError(
                f"{where}: constraint {name} is not supported, only fixed atoms (FixAtoms): remove it "
                "(atoms.set_constraint())"
            )
    partly = np.flatnonzero(held.any(axis=1) & ~held.all(axis=1))
    if len(partly):
        raise DataError(
            f"{where}: atom {atom_name(atoms, int(partly[0]))} is fixed along only some directions, which is not "
            "supported: fix it along all directions (FixAtoms), or remove the constraint"
        )
    return np.asarray(held.all(axis=1))
