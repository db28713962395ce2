"""HDF5 in the conventions of mdtraj (its "HDF5 Format", version 1.1), with velocities and forces."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar

from piwsl._version import __version__
from piwsl.data.hdf5_file import h5py_module
from piwsl.md.output.frame import OutputFrame, too_few, writing
from piwsl.md.structure import bonded_pairs
from piwsl.units import NANOMETER, PICOSECOND

_CHUNK = 64  # frames
_SPARE = 4 * 2**20  # bytes; room for chunks and their index


class Hdf5Writer:
    """An HDF5 file. Frames are collected until a flush, so that a kill finds the file whole.

    Args:
        path: file.
        structure: whose atoms move.
        write: ``velocities`` and ``forces``, where they are wanted.
        keep: frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        MissingDependencyError: h5py is not installed.
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, structure: Atoms, write: tuple[str, ...], keep: int = 0) -> None:
        self._path = path
        self._waiting: list[OutputFrame] = []
        h5py = h5py_module()
        with writing(path):
            if keep:
                self._file: Any = h5py.File(path, "r+")
                found = len(self._file["coordinates"])
                if found < keep:
                    self._file.close()
                    raise too_few(path, found, keep)
                for name in self._names():
                    self._file[name].resize(keep, axis=0)
            else:
                self._file = h5py.File(path, "w")
                self._lay_out(structure, write)
            self._file.flush()

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        self._waiting.append(frame)
        if len(self._waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if not self._waiting:
            return
        frames, self._waiting = self._waiting, []
        columns = {
            "coordinates": [frame.positions / NANOMETER for frame in frames],
            "time": [frame.time / PICOSECOND for frame in frames],
            "velocities": [_scaled(frame.velocities, PICOSECOND / NANOMETER) for frame in frames],
            "forces": [frame.forces for frame in frames],
        }
        if "cell_lengths" in self._file:
            parameters = np.array([cell_to_cellpar(frame.cell) for frame in frames])
            columns |= {"cell_lengths": parameters[:, :3] / NANOMETER, "cell_angles": parameters[:, 3:]}
        arrays = {name: np.asarray(columns[name], dtype=np.float32) for name in self._names()}
        with writing(self._path):
            # The library crashes on a disk that is full, so it must not meet one.
            wanted = sum(array.nbytes for array in arrays.values()) + _SPARE
            if shutil.disk_usage(self._path.parent).free < wanted:
                raise OSError(errno.ENOSPC, "no space left on device")
            for name, array in arrays.items():
                data = self._file[name]
                count = len(data)
                data.resize(count + len(frames), axis=0)
                data[count:] = array
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        if self._file:
            self.flush()
            with writing(self._path):
                self._file.close()

    def _names(self) -> list[str]:
        return [name for name in self._file if name != "topology"]

    def _lay_out(self, structure: Atoms, write: tuple[str, ...]) -> None:
        attributes = {"conventions": "Pande", "conventionVersion": "1.1", "program": "piwsl"}
        attributes |= {"programVersion": __version__, "application": "piwsl", "title": "piwsl md"}
        for name, text in attributes.items():
            self._file.attrs[name] = np.bytes_(text)
        self._file["topology"] = np.array([json.dumps(_topology(structure)).encode()])
        count = len(structure)
        tables: dict[str, tuple[tuple[int, ...], str]] = {
            "coordinates": ((count, 3), "nanometers"),
            "time": ((), "picoseconds"),
        }
        if structure.pbc.any():
            tables |= {"cell_lengths": ((3,), "nanometers"), "cell_angles": ((3,), "degrees")}
        if "velocities" in write:
            tables["velocities"] = ((count, 3), "nanometers/picosecond")
        if "forces" in write:
            tables["forces"] = ((count, 3), "eV/angstrom")
        for name, (shape, unit) in tables.items():
            data = self._file.create_dataset(name, (0, *shape), "f4", maxshape=(None, *shape), chunks=(_CHUNK, *shape))
            data.attrs["units"] = np.bytes_(unit)


def _scaled(values: Any, factor: float) -> Any:
    return None if values is None else values * factor


def _topology(structure: Atoms) -> dict[str, Any]:
    """One residue, as mdtraj describes topologies."""
    atoms = [
        {"index": index, "name": f"{symbol}{index}", "element": symbol}
        for index, symbol in enumerate(structure.get_chemical_symbols())
    ]
    residue = {"index": 0, "resSeq": 1, "name": "MOL", "segmentID": "", "atoms": atoms}
    bonds = [[int(first), int(second)] for first, second in bonded_pairs(structure)]
    return {"chains": [{"index": 0, "residues": [residue]}], "bonds": bonds}
