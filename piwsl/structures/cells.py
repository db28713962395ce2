"""Periodic cells: directions, lattice vectors, lengths and angles."""

import math

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from piwsl.errors import DataError
from piwsl.typing import FloatArray

VACUUM = 1000.0  # angstrom; length of cell vectors along directions that are not periodic

PBC = tuple[bool, bool, bool]
NO_PBC: PBC = (False, False, False)

# Beyond these limits a cell is wrong or has collapsed, and a neighbor search would not terminate.
FLATTEST = 0.05  # angstrom; smallest distance between opposite faces
DENSEST = 2.0  # atoms per cubic angstrom (diamond: 0.18)
_THINNEST = 2.0  # angstrom; assumed thickness of a slab or wire with one layer of atoms


def periodic_directions(structure: Atoms) -> PBC:
    """Return the periodic directions of a structure as Python booleans."""
    return bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2])


def check_cell(cell: FloatArray, pbc: PBC, positions: FloatArray, where: str = "structure") -> None:
    """Raise an error if a cell is degenerate along its periodic directions, or too small for its atoms.

    Args:
        cell: Cell (3, 3), angstrom.
        pbc: Periodic directions.
        positions: Positions (n, 3), angstrom, all finite.
        where: Name of the file or structure, used in messages.

    Raises:
        DataError: A periodic lattice vector is missing or not finite, the periodic lattice vectors are linearly
            dependent, or the cell is too small for its atoms.
    """
    if not any(pbc):
        return
    rows = np.asarray(cell).tolist()
    if not math.isfinite(sum(map(sum, rows))):
        raise DataError(f"{where}: the cell contains numbers that are not finite: correct its lattice vectors")
    vectors = [vector for vector, periodic in zip(rows, pbc, strict=True) if periodic]
    advice = "correct the lattice vectors, or the periodic directions (pbc)"
    if not any(map(any, vectors)):
        raise DataError(f"{where}: periodic but without a cell: add the lattice vectors, or set pbc to F F F")
    for direction, vector in enumerate(rows):
        if pbc[direction] and not any(vector):
            raise DataError(f"{where}: no lattice vector along the periodic direction {direction + 1}: {advice}")
    height = min(cell_heights(cell, pbc))
    if height < FLATTEST:
        raise DataError(f"{where}: the cell is flat, with faces {height:.2g} angstrom apart: {advice}")
    measure = _measure(vectors)
    if len(positions) > DENSEST * measure * _THINNEST ** (3 - len(vectors)):
        others = np.linalg.qr(np.transpose(vectors), mode="complete")[0][:, len(vectors) :]
        volume = measure * np.prod(np.maximum(np.ptp(positions @ others, axis=0), _THINNEST))
        if len(positions) > DENSEST * volume:
            lengths = " x ".join(f"{math.hypot(*vector):.3g}" for vector in vectors)
            raise DataError(f"{where}: a cell of {lengths} angstrom is too small for {len(positions)} atoms: {advice}")


def cell_heights(cell: FloatArray, pbc: PBC = (True, True, True)) -> FloatArray:
    """Return the distances (3,) between opposite faces of a cell (3, 3), angstrom; infinite if not periodic."""
    vectors: list[list[float]] = np.asarray(cell).tolist()
    directions = [direction for direction in range(3) if pbc[direction]]
    whole = _measure([vectors[direction] for direction in directions])
    heights = [math.inf] * 3
    for direction in directions:
        face = _measure([vectors[other] for other in directions if other != direction])
        heights[direction] = whole / face if face > 0 else 0.0
    return np.array(heights)


def _measure(vectors: list[list[float]]) -> float:
    """Return the volume, area or length spanned by vectors; 1 without vectors. NumPy would take ten times as long."""
    if not vectors:
        return 1.0
    if len(vectors) == 1:
        return math.hypot(*vectors[0])
    (a, b, c), (d, e, f) = vectors[:2]
    normal = b * f - c * e, c * d - a * f, a * e - b * d
    if len(vectors) == 2:
        return math.hypot(*normal)
    return abs(sum(one * other for one, other in zip(normal, vectors[2], strict=True)))


def complete_cells(vectors: FloatArray) -> FloatArray | None:
    """Replace the missing lattice vectors of slabs and wires by long vectors.

    Args:
        vectors: Cells (frames, 3, 3), angstrom; zeros for a missing vector.

    Returns:
        Cells (frames, 3, 3), angstrom, float64; None if no frame has a lattice vector, or a cell has no volume.
    """
    vectors = np.asarray(vectors, dtype=np.float64)  # files may contain single precision
    missing = ~vectors.any(axis=2)
    if missing.all():
        return None
    if not missing.any():
        return vectors if bool((np.abs(np.linalg.det(vectors)) > 0).all()) else None
    with np.errstate(invalid="ignore", divide="ignore"):  # of vectors that are parallel
        completed = np.array([complete_cell(cell) for cell in vectors])
    completed[missing] *= VACUUM
    return completed if np.isfinite(completed).all() else None


def cell_vectors(lengths: FloatArray, angles: FloatArray) -> FloatArray:
    """Return lattice vectors in rows (frames, 3, 3), with the first along x and the second in the xy plane.

    Args:
        lengths: Lengths of the lattice vectors (frames, 3), in any unit.
        angles: Alpha, beta and gamma (frames, 3), degrees.
    """
    # The cosine of 90 degrees is 0, not 6e-17.
    alpha, beta, gamma = np.where(angles == 90.0, 0.0, np.cos(np.radians(angles))).T
    sine = np.sqrt(np.maximum(1 - gamma**2, 1e-30))  # avoids division by zero for damaged angles
    vectors = np.zeros((len(lengths), 3, 3))
    vectors[:, 0, 0] = 1.0
    vectors[:, 1, 0], vectors[:, 1, 1] = gamma, sine
    vectors[:, 2, 0], vectors[:, 2, 1] = beta, (alpha - beta * gamma) / sine
    vectors[:, 2, 2] = np.sqrt(np.maximum(1 - vectors[:, 2, 0] ** 2 - vectors[:, 2, 1] ** 2, 0.0))
    return np.asarray(vectors * lengths[:, :, None])
