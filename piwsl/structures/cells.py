"""Periodic cells: directions, lattice vectors, lengths and angles."""

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
        lengths: (frames, 3), in any unit.
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
