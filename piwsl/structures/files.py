"""Load structures from files, and check that a potential can evaluate them."""

import logging
import math
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from piwsl.errors import DataError, reason_of
from piwsl.structures.cells import check_cell, periodic_directions
from piwsl.structures.isotopes import with_isotopes
from piwsl.structures.neighbors import neighbor_pairs

LOGGER = logging.getLogger(__name__)

# The shortest distance in any molecule is the bond length of H2, 0.74 angstrom.
CLOSEST_DISTANCE = 0.5  # angstrom
FARTHEST_POSITION = 1e6  # angstrom from the origin; beyond this, single precision cannot resolve bond lengths


def atom_name(atoms: Atoms, index: int) -> str:
    """Return an atom name such as ``C3`` for the carbon atom with index 3; indices start at 0."""
    return f"{atoms.symbols[index]}{index}"


def load_structure(path: str | Path) -> Atoms:
    """Read the last structure of a file that ASE can read.

    Raises:
        DataError: The file is missing or cannot be read, or the structure fails `check_structure`.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # angles of zero, which raise an error below
            atoms = with_isotopes(lambda: read(path, index=-1, do_not_split_by_at_sign=True))
    except Exception as error:  # ASE's readers raise any exception for damaged files
        if _is_pdb(path) and isinstance(error, AssertionError):
            raise DataError(
                f"{path}: its CRYST1 record is not a cell: correct its lengths and angles, or remove it for no cell"
            ) from None
        raise DataError(f"{path}: not a structure file that ASE can read ({reason_of(error)})") from None
    assert isinstance(atoms, Atoms)
    lengths = atoms.cell.lengths()
    if _is_pdb(path) and atoms.pbc.any() and (np.array_equal(atoms.cell.array, np.eye(3)) or not lengths.any()):
        LOGGER.info(f"{path}: CRYST1 of {' x '.join(f'{x:g}' for x in lengths)} angstrom is read as no cell")
        atoms.cell[:], atoms.pbc = 0.0, False
    check_structure(atoms, str(path))
    atoms.calc = None
    return atoms


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Raise an error if no potential can evaluate a structure.

    Raises:
        DataError: The structure has no atoms, a ghost atom, a position or mass outside the valid range, a degenerate
            cell, or two atoms at nearly the same position.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: contains no atoms")
    if (ghosts := np.flatnonzero(atoms.numbers < 1)).size:
        raise DataError(
            f"{where}: atom {atom_name(atoms, int(ghosts[0]))} is a ghost atom without an element: remove it"
        )
    check_finite(atoms, where)
    if (far := np.flatnonzero(np.abs(atoms.positions).max(axis=1) > FARTHEST_POSITION)).size:
        raise DataError(
            f"{where}: atom {atom_name(atoms, int(far[0]))} is more than {FARTHEST_POSITION:.0e} angstrom away from "
            "the origin: check the unit of the positions, or correct the structure"
        )
    masses = atoms.get_masses()
    if (wrong := np.flatnonzero(~((masses > 0) & (masses < np.inf)))).size:
        raise DataError(
            f"{where}: the mass of atom {atom_name(atoms, int(wrong[0]))} is {masses[wrong[0]]:g} amu: masses must be "
            "finite and positive; use FixAtoms to fix atoms"
        )
    check_cell(atoms.cell.array, periodic_directions(atoms), atoms.positions, where)
    close = neighbor_pairs(atoms.positions, atoms.cell.array, periodic_directions(atoms), CLOSEST_DISTANCE)
    close = close.select(close.first != close.second)
    if len(close.distances):
        closest = int(close.distances.argmin())
        i, j = sorted((int(close.first[closest]), int(close.second[closest])))
        raise DataError(
            f"{where}: atoms {atom_name(atoms, i)} and {atom_name(atoms, j)} are {close.distances[closest]:.2f} "
            f"angstrom apart (closer than {CLOSEST_DISTANCE}): correct the structure"
        )


def check_finite(atoms: Atoms, where: str = "structure") -> None:
    """Refuse positions and periodic lattice vectors that are not finite numbers; this costs a few microseconds.

    Raises:
        DataError: The first such atom, or the cell.
    """
    if not math.isfinite(atoms.positions.sum()):
        for index in np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1)):
            raise DataError(f"{where}: the position of atom {atom_name(atoms, int(index))} is not a finite number")
    if atoms.pbc.any() and not np.isfinite(atoms.cell.array).all():
        raise DataError(f"{where}: the cell contains numbers that are not finite: correct its lattice vectors")


def _is_pdb(path: str | Path) -> bool:
    """Return whether the name of a file is that of a PDB file."""
    return Path(path).suffix.lower() in (".pdb", ".ent")
