"""Structures from files, and whether a potential can start from them."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from piwsl.errors import DataError, reason_of
from piwsl.structures.cells import periodic_directions
from piwsl.structures.neighbors import neighbor_pairs

# No two atoms of a molecule come closer than H-H, 0.74 angstrom; a strongly bent H-O-H keeps 1.5.
CLOSEST_DISTANCE = 0.5  # angstrom


def atom_name(atoms: Atoms, index: int) -> str:
    """Return a name such as ``C3``, the carbon atom of index 3; indices start at 0."""
    return f"{atoms.symbols[index]}{index}"


def load_structure(path: str | Path) -> Atoms:
    """Read the last structure of a file in a format of ASE.

    Raises:
        DataError: the file is missing or not readable, or the structure fails `check_structure`.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        atoms = read(path, index=-1)
    except Exception as error:  # ASE's readers raise whatever their parsers meet
        raise DataError(f"{path}: not a structure file that ASE reads ({reason_of(error)})") from None
    assert isinstance(atoms, Atoms)
    check_structure(atoms, str(path))
    atoms.calc = None
    return atoms


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Raise an error for a structure that no potential can start from.

    Raises:
        DataError: the structure has no atoms, a position that is not finite, or two atoms on top of each other.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise DataError(f"{where}: the position of atom {atom_name(atoms, int(bad[0]))} is not a finite number")
    close = neighbor_pairs(atoms.positions, atoms.cell.array, periodic_directions(atoms), CLOSEST_DISTANCE)
    close = close.select(close.first != close.second)
    if len(close.distances):
        closest = int(close.distances.argmin())
        i, j = sorted((int(close.first[closest]), int(close.second[closest])))
        raise DataError(
            f"{where}: atoms {atom_name(atoms, i)} and {atom_name(atoms, j)} are {close.distances[closest]:.2f} "
            f"angstrom apart (closer than {CLOSEST_DISTANCE}): correct the structure"
        )
