"""Extended XYZ: text that ASE and people read, with velocities and forces."""

from pathlib import Path

import numpy as np
from ase import Atoms

from piwsl.md.output.append import AppendFile
from piwsl.md.output.frame import OutputFrame, too_few
from piwsl.typing import FloatArray


class ExtxyzWriter:
    """An extended XYZ file; velocities are columns ``velocities`` in angstrom/fs, forces ``forces`` in eV/angstrom.

    ASE has a writer, too, which takes half a millisecond for a molecule of twenty atoms; this one a fifth of it.

    Args:
        path: file.
        structure: whose atoms move.
        write: ``velocities`` and ``forces``, where they are wanted.
        keep: frames of an existing file to keep; the rest of it is cut off in place.

    Raises:
        RunDirectoryError: the existing file holds fewer frames, or the disk refuses.
    """

    def __init__(self, path: Path, structure: Atoms, write: tuple[str, ...], keep: int = 0) -> None:
        columns, row = ["species:S:1", "pos:R:3"], "%16.8f" * 3
        for name, width in (("velocities", "%16.10f"), ("forces", "%16.8f")):
            if name in write:
                columns.append(f"{name}:R:3")
                row += width * 3
        self._structure = structure
        self._properties = ":".join(columns)
        self._rows = "".join(f"{symbol:<2}{row}\n" for symbol in structure.get_chemical_symbols())
        self._file = AppendFile(path, _bytes_to_keep(path, len(structure) + 2, keep) if keep else 0)

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        columns = [one for one in (frame.positions, frame.velocities, frame.forces) if one is not None]
        rows = self._rows % tuple(np.concatenate(columns, axis=1).ravel().tolist())
        self._file.add(f"{len(self._structure)}\n{self._comment(frame)}\n{rows}".encode())

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """End the file; once more does nothing."""
        self._file.close()

    def _comment(self, frame: OutputFrame) -> str:
        lattice = "" if frame.cell is None else f'Lattice="{_numbers(frame.cell)}" '
        periodic = " ".join("FT"[int(one)] for one in self._structure.pbc)
        return f'{lattice}Properties={self._properties} step={frame.step} time_fs={frame.time!r} pbc="{periodic}"'


def _numbers(values: FloatArray) -> str:
    return " ".join(f"{float(value):.10g}" for value in values.ravel())


def _bytes_to_keep(path: Path, lines: int, keep: int) -> int:
    found = 0
    if path.is_file():
        with path.open("rb") as file:
            while found < keep and all(file.readline().endswith(b"\n") for _ in range(lines)):
                found += 1
            if found == keep:
                return file.tell()
    raise too_few(path, found, keep)
