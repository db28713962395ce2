"""Snapshots of structures, for stop rules."""

import numpy as np

from piwsl.md.engines.base import Snapshot


def at_rest(atoms):
    """Positions and cell of a structure, copied, with velocities of zero."""
    cell = atoms.cell.array.copy() if atoms.pbc.any() else None
    return Snapshot(atoms.positions.copy(), np.zeros((len(atoms), 3)), cell)
