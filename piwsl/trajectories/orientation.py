"""Rotation of structures to the standard orientation of the cell, which most trajectory formats require."""

from dataclasses import replace

import numpy as np
from ase.cell import Cell

from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.typing import FloatArray


def standard_orientation(cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the cell with its first vector along x and its second in the xy plane, and the rotation to it.

    The cell is factorized into L Q, with L lower triangular and a positive diagonal. The vectors of a left-handed cell
    change sign first; the lattice stays the same, and Q becomes a rotation instead of a reflection.

    Args:
        cell: Cell (3, 3) with vectors in rows, angstrom. Vectors along directions that are not periodic may be zero.

    Returns:
        Cell (3, 3), and rotation (3, 3) that multiplies row vectors from the right.
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
