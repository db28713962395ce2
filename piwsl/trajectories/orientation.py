"""Rotation of structures to the standard orientation of cells that most trajectory formats need."""

from dataclasses import replace

import numpy as np
from ase.cell import Cell

from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.typing import FloatArray


def standard_orientation(cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the cell with its first vector along x and its second in the xy plane, and the rotation to it.

    From the factors L Q of the cell, L lower triangular with a positive diagonal. The vectors of a left-handed cell
    change sign first, which leaves the lattice as it is and makes Q a rotation, not a reflection.

    Args:
        cell: (3, 3) angstrom, one vector a row; the vectors of directions that are not periodic may be zero.

    Returns:
        The cell (3, 3), and the rotation (3, 3) by which rows of vectors are multiplied from the right.
    """
    missing = ~cell.any(axis=1)
    full = np.asarray(Cell(cell).complete())
    if (np.triu(full, 1) == 0).all() and (np.diag(full) > 0).all():
        return cell, np.eye(3)
    turned, upper = np.linalg.qr((full * np.sign(np.linalg.det(full))).T)
    signs = np.sign(np.diag(upper))
    lower = np.tril(upper.T * signs)
    lower[missing] = 0.0
    return lower, turned * signs


def oriented(frame: OutputFrame) -> OutputFrame:
    """Rotate a frame to the standard orientation of its cell; a molecule is unchanged."""
    if frame.cell is None:
        return frame
    cell, rotation = standard_orientation(frame.cell)
    if cell is frame.cell:
        return frame
    velocities = None if frame.velocities is None else frame.velocities @ rotation
    forces = None if frame.forces is None else frame.forces @ rotation
    return replace(frame, cell=cell, positions=frame.positions @ rotation, velocities=velocities, forces=forces)
