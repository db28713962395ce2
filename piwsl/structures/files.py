"""Checks that a potential can evaluate a structure."""

import math

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from piwsl.errors import DataError
from piwsl.structures.cells import check_cell, periodic_directions
from piwsl.structures.neighbors import neighbor_pairs

# The shortest distance in any molecule is the bond length of H2, 0.74 angstrom.
CLOSEST_DISTANCE = 0.5  # angstrom
HEAVIEST_ATOM = 1e5  # amu; even the particles of coarse-grained models are lighter
FARTHEST_POSITION = 1e6  # angstrom from the origin; beyond this, single precision cannot resolve bond lengths


def atom_name(atoms: Atoms, index: int) -> str:
    """Return an atom name such as ``C3`` for the carbon atom with index 3; indices start at 0."""
    return f"{atoms.symbols[index]}{index}"


def columns_of(atoms: Atoms) -> list[str]:
    """Return the columns of an extended XYZ file that keeps fixed atoms and masses in all versions of ASE."""
    fixed = ["move_mask"] if atoms.constraints else []
    masses = ["masses"] if atoms.has("masses") else []
    return ["symbols", "positions", *fixed, *masses]


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Raise an error if no potential can evaluate a structure.

    Raises:
        DataError: The structure has no atoms, a ghost atom, a position or mass outside the valid range, a degenerate
            cell, or two atoms at nearly the same position.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: contains no atoms")
    if (unknown := np.flatnonzero((atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols)))).size:
        raise DataError(
            f"{where}: atom {unknown[0]} has the atomic number {atoms.numbers[unknown[0]]}: no such element"
        )
    if (ghosts := np.flatnonzero(atoms.numbers == 0)).size:
        raise DataError(
            f"{where}: atom {atom_name(atoms, int(ghosts[0]))} is a ghost atom without an element: remove it"
        )
    check_finite(atoms, where)
    check_reach(atoms, where)
    masses = atoms.get_masses()
    if (wrong := np.flatnonzero(~((masses > 0) & (masses <= HEAVIEST_ATOM)))).size:
        raise DataError(
            f"{where}: the mass of atom {atom_name(atoms, int(wrong[0]))} is {masses[wrong[0]]:g} amu: masses must be "
            f"positive and at most {HEAVIEST_ATOM:.0e} amu; use FixAtoms to fix atoms"
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


def check_reach(atoms: Atoms, where: str = "structure") -> None:
    """Refuse positions and lattice vectors that are unreasonably large; this costs a few microseconds.

    Raises:
        DataError: The first such atom, or the cell.
    """
    if np.abs(atoms.positions).max(initial=0.0) > FARTHEST_POSITION:
        far = int(np.flatnonzero(np.abs(atoms.positions).max(axis=1) > FARTHEST_POSITION)[0])
        raise DataError(
            f"{where}: atom {atom_name(atoms, far)} is more than {FARTHEST_POSITION:.0e} angstrom away from "
            "the origin: check the unit of the positions, or correct the structure"
        )
    if atoms.pbc.any() and np.abs(atoms.cell.array).max() > FARTHEST_POSITION:
        raise DataError(
            f"{where}: a lattice vector is longer than {FARTHEST_POSITION:.0e} angstrom: check the unit of the cell, "
            "or correct the structure"
        )
