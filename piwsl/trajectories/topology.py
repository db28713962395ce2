"""Writer of topology.pdb, the initial structure for mdtraj, VMD and OpenMM."""

from pathlib import Path

import mdtraj
import numpy as np
from ase import Atoms

from piwsl.runs.files import atomic_path, writing
from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.trajectories.orientation import oriented
from piwsl.typing import IntArray
from piwsl.units import NANOMETER


def write_topology(path: Path, atoms: Atoms, bonds: IntArray) -> None:
    """Write the initial structure to a PDB file with one residue UNL and atoms C1, C2, ..., H1, ...

    A periodic structure is rotated to the standard orientation of the cell, the only orientation that PDB supports.
    """
    topology = mdtraj.Topology()
    residue = topology.add_residue("UNL", topology.add_chain())
    counts: dict[str, int] = {}
    for symbol in atoms.get_chemical_symbols():
        counts[symbol] = counts.get(symbol, 0) + 1
        topology.add_atom(f"{symbol}{counts[symbol]}", mdtraj.element.get_by_symbol(symbol), residue)
    for first, second in bonds:
        topology.add_bond(topology.atom(int(first)), topology.atom(int(second)))
    frame = oriented(OutputFrame(0, 0.0, atoms.positions, atoms.cell.array if atoms.pbc.all() else None))
    trajectory = mdtraj.Trajectory(np.asarray(frame.positions / NANOMETER, dtype=np.float32), topology)
    if frame.cell is not None:
        trajectory.unitcell_vectors = np.asarray(frame.cell / NANOMETER, dtype=np.float32)[None]
    with writing(path), atomic_path(path) as temporary:
        trajectory.save_pdb(str(temporary))
