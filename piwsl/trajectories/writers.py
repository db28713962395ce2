"""The trajectory writer of a protocol, by the name of its format."""

from pathlib import Path

from ase import Atoms

from piwsl.md.output.frame import TrajectoryWriter
from piwsl.md.protocol import MDProtocol


def open_trajectory(path: Path, structure: Atoms, protocol: MDProtocol, keep: int = 0) -> TrajectoryWriter:
    """Begin a trajectory, or go on in one behind its first frames.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
        MissingDependencyError: h5py is not installed, and the format is HDF5.
    """
    if protocol.trajectory_format == "xtc":
        from piwsl.md.output.xtc import XtcWriter

        return XtcWriter(path, keep)
    if protocol.trajectory_format == "extxyz":
        from piwsl.md.output.extxyz import ExtxyzWriter

        return ExtxyzWriter(path, structure, protocol.write, keep)
    if protocol.trajectory_format == "hdf5":
        from piwsl.md.output.hdf5 import Hdf5Writer

        return Hdf5Writer(path, structure, protocol.write, keep)
    from piwsl.md.output.dcd import DcdWriter

    interval, timestep = protocol.trajectory_interval, protocol.timestep
    return DcdWriter(path, len(structure), bool(structure.pbc.any()), interval, timestep, keep)
