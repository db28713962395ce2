"""Atoms that a structure holds fixed."""

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from piwsl.errors import DataError
from piwsl.structures.files import atom_name
from piwsl.typing import BoolArray


def fixed_atoms(atoms: Atoms, where: str = "structure") -> BoolArray:
    """Return the mask (n,) of atoms that the constraints of a structure hold fixed.

    Atoms whose coordinates are all held one by one (`FixCartesian`, `FixScaled`, ``move_mask`` of three columns) are
    fixed atoms.

    Raises:
        DataError: Another constraint, or some coordinates of an atom are held and others are not.
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
                f"{where}: constraint {name}: no engine keeps it, only fixed atoms (FixAtoms): remove it "
                "(atoms.set_constraint())"
            )
    partly = np.flatnonzero(held.any(axis=1) & ~held.all(axis=1))
    if len(partly):
        raise DataError(
            f"{where}: atom {atom_name(atoms, int(partly[0]))} is fixed along some directions only, which no engine "
            "keeps: fix it along all of them (FixAtoms), or remove the constraint"
        )
    return np.asarray(held.all(axis=1))
