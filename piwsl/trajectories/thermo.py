"""thermo.csv: energies and temperature in the course of a run, and the volume of a cell."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from piwsl.runs.files import write_text, writing
from piwsl.trajectories.writer import AppendFile
from piwsl.typing import FloatArray
from piwsl.units import GRAMS_PER_ML, PICOSECOND

COLUMNS = ("step", "time [ps]", "potential [eV]", "kinetic [eV]", "total [eV]", "temperature [K]")
CELL_COLUMNS = ("volume [A^3]", "density [g/cm^3]")


@dataclass(frozen=True)
class Energies:
    """Potential and kinetic energy, eV."""

    potential: float
    kinetic: float


class ThermoWriter:
    """thermo.csv, one row per report interval.

    Args:
        path: file.
        timestep: fs.
        keep_until: keep rows of an existing file up to this step, cut the rest.
        mass: of all atoms, amu, for the density of a periodic structure; None: there is no cell.

    Raises:
        RunDirectoryError: the disk refuses.
    """

    def __init__(self, path: Path, timestep: float, keep_until: int = 0, mass: float | None = None) -> None:
        self._timestep, self._mass = timestep, mass
        rows = [row for row in read_thermo(path) if int(row[0]) <= keep_until] if keep_until > 0 else []
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([COLUMNS + CELL_COLUMNS if mass else COLUMNS, *rows])
        with writing(path):
            write_text(path, text.getvalue())
        self._file = AppendFile(path, keep=len(text.getvalue()))

    def write(self, step: int, energies: Energies, temperature: float, cell: FloatArray | None = None) -> None:
        """Add a row; ``cell`` (3, 3) in angstrom."""
        total = energies.potential + energies.kinetic
        row = (
            f"{step},{step * self._timestep / PICOSECOND:.6g},{energies.potential:.8f},{energies.kinetic:.8f},"
            f"{total:.8f},{temperature:.3f}"
        )
        if self._mass and cell is not None:
            volume = abs(float(np.linalg.det(cell)))
            row += f",{volume:.5f},{self._mass / volume / GRAMS_PER_ML:.6f}"
        self._file.add(f"{row}\n".encode())

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()


def read_thermo(path: Path) -> list[list[str]]:
    """Whole rows of a thermo.csv, without the header; a half-written last row is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline was cut
    header, *rows = list(csv.reader(lines)) or [[]]
    return [row for row in rows if len(row) == len(header) and row[0].isdigit()]
