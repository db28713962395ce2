"""Periodic cells: directions, lattice vectors, lengths and angles."""

from math import sqrt

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from piwsl.typing import FloatArray

VACUUM = 1000.0  # angstrom; in directions that are not periodic

PBC = tuple[bool, bool, bool]
NO_PBC: PBC = (False, False, False)


def periodic_directions(structure: Atoms) -> PBC:
    """Return the periodic directions of a structure as plain booleans."""
    return bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2])


# Of the densest matter known; a cell of 1 x 1 x 1 angstrom around a molecule, as some PDB files have, means none.
SMALLEST_VOLUME = 0.5  # angstrom^3 per atom
_FLAT = 1e-4  # volume of three unit vectors


def cell_error(cell: FloatArray, pbc: PBC, atoms: int) -> str | None:
    """Return why a cell cannot belong to a periodic structure, in words; None if it can.

    Args:
        cell: lattice vectors in rows (3, 3), angstrom.
        pbc: periodic directions.
        atoms: number of atoms.
    """
    lengths = [sqrt(x * x + y * y + z * z) for x, y, z in cell.tolist()]
    missing = [name for name, length, periodic in zip("abc", lengths, pbc, strict=True) if periodic and not length > 0]
    if missing:
        return (
            f"periodic along {' and '.join(missing)}, but without lattice vectors there: give a cell (Lattice), or "
            "pbc='F F F'"
        )
    if all(length > 0 for length in lengths):
        volume = abs(float(np.linalg.det(cell)))
        if volume < _FLAT * lengths[0] * lengths[1] * lengths[2]:
            return "its lattice vectors lie in a plane, the cell has no volume: correct the cell"
        if all(pbc) and volume < SMALLEST_VOLUME * atoms:
            return f"its cell has a volume of {volume:.3g} A^3 for {atoms} atoms: correct the cell, or remove it"
    elif sum(length > 0 for length in lengths) == 2:
        first, second = (vector for vector, length in zip(cell, lengths, strict=True) if length > 0)
        if np.linalg.norm(np.cross(first, second)) < _FLAT * np.linalg.norm(first) * np.linalg.norm(second):
            return "its lattice vectors are parallel: correct the cell"
    return None


def complete_cells(vectors: FloatArray) -> FloatArray | None:
    """Replace the missing lattice vectors of slabs and wires by long ones.

    Args:
        vectors: cells (frames, 3, 3), angstrom; zeros for a missing vector.

    Returns:
        Cells (frames, 3, 3), angstrom, float64; None if no frame has a lattice vector, or a cell has no volume.
    """
    vectors = np.asarray(vectors, dtype=np.float64)  # also from files that hold single precision
    missing = ~vectors.any(axis=2)
    if missing.all():
        return None
    if not missing.any():
        return vectors if bool((np.abs(np.linalg.det(vectors)) > 0).all()) else None
    completed = np.array([complete_cell(cell) for cell in vectors])
    completed[missing] *= VACUUM
    return completed


def cell_vectors(lengths: FloatArray, angles: FloatArray) -> FloatArray:
    """Return lattice vectors in rows (frames, 3, 3); the first is along x, the second in the plane of x and y.

    Args:
        lengths: lengths of the lattice vectors (frames, 3), in any unit.
        angles: alpha, beta and gamma (frames, 3), degrees.
    """
    # The cosine of 90 degrees is 0, not 6e-17.
    alpha, beta, gamma = np.where(angles == 90.0, 0.0, np.cos(np.radians(angles))).T
    sine = np.sqrt(np.maximum(1 - gamma**2, 1e-30))  # of damaged angles, no division by zero
    vectors = np.zeros((len(lengths), 3, 3))
    vectors[:, 0, 0] = 1.0
    vectors[:, 1, 0], vectors[:, 1, 1] = gamma, sine
    vectors[:, 2, 0], vectors[:, 2, 1] = beta, (alpha - beta * gamma) / sine
    vectors[:, 2, 2] = np.sqrt(np.maximum(1 - vectors[:, 2, 0] ** 2 - vectors[:, 2, 1] ** 2, 0.0))
    return np.asarray(vectors * lengths[:, :, None])
