"""Extended XYZ: text that ASE and people read, with velocities and forces."""

from pathlib import Path
from typing import IO

from ase import Atoms
from ase.io.extxyz import write_extxyz

from piwsl.md.output.frame import OutputFrame, too_few, writing


class ExtxyzWriter:
    """An extended XYZ file; velocities are a column ``velocities`` in angstrom/fs, forces ``forces`` in eV/angstrom.

    Args:
        path: file.
        structure: whose atoms move.
        keep: frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, structure: Atoms, keep: int = 0) -> None:
        self._path = path
        self._atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
        with writing(path):
            if keep:
                self._cut(keep)
            self._file: IO[str] = path.open("a" if keep else "w", encoding="utf-8")

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        atoms = self._atoms
        atoms.positions = frame.positions
        if frame.cell is not None:
            atoms.set_cell(frame.cell)
        atoms.info = {"step": frame.step, "time_fs": frame.time}
        columns = ["symbols", "positions"]
        if frame.velocities is not None:
            atoms.arrays["velocities"] = frame.velocities
            columns.append("velocities")
        if frame.forces is not None:
            atoms.arrays["forces"] = frame.forces
            columns.append("forces")
        with writing(self._path):
            write_extxyz(self._file, atoms, columns=columns)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with writing(self._path):
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        with writing(self._path):
            self._file.close()

    def _cut(self, keep: int) -> None:
        """Leave the first frames. Cutting twice does no harm."""
        found = 0
        lines = len(self._atoms) + 2
        if self._path.is_file():
            with self._path.open("r+b") as file:
                while found < keep and all(file.readline().endswith(b"\n") for _ in range(lines)):
                    found += 1
                if found == keep:
                    file.truncate(file.tell())
                    return
        raise too_few(self._path, found, keep)
