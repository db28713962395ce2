"""Reader and writer of thermo.csv, a table of energies, temperature and cell volume during a run."""

import csv
import math
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from piwsl.errors import DataError, reason_of
from piwsl.runs.files import atomic_path, writing
from piwsl.trajectories.frame_writer import AppendFile
from piwsl.typing import BoolArray, FloatArray
from piwsl.units import GRAMS_PER_ML, PICOSECOND

COLUMNS = ("step", "time [ps]", "potential [eV]", "kinetic [eV]", "total [eV]", "temperature [K]")
CELL_COLUMNS = ("volume [A^3]", "density [g/cm^3]")
_TAIL = 65536  # bytes at the end of the file that `read_latest` reads


@dataclass(frozen=True)
class Energies:
    """Potential and kinetic energy of a structure, eV."""

    potential: float
    kinetic: float


class ThermoWriter:
    """Write thermo.csv with one row per report interval.

    Args:
        path: Path of the file.
        timestep: Time step, fs.
        keep_until: Step up to which rows of an existing file are kept; the file is truncated after them.
        mass: Total mass, amu, for the density of a periodic structure; None without a cell.

    Raises:
        RunDirectoryError: The file cannot be written.
    """

    def __init__(self, path: Path, timestep: float, keep_until: int = 0, mass: float | None = None) -> None:
        self._timestep, self._mass = timestep, mass
        rows = (row for row in iterate_rows(path) if int(row[0]) <= keep_until) if keep_until > 0 else ()
        with writing(path), atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS + CELL_COLUMNS if mass else COLUMNS)
            writer.writerows(rows)
        self._file = AppendFile(path, keep=path.stat().st_size)

    def write(self, step: int, energies: Energies, temperature: float, cell: FloatArray | None = None) -> None:
        """Append a row; ``cell`` (3, 3) is in angstrom."""
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
        """Write buffered rows to the file."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def iterate_rows(path: Path) -> Iterator[list[str]]:
    """Yield the complete rows of a thermo.csv file without the header. An incomplete last row is skipped.

    Raises:
        DataError: The file is damaged.
    """
    if not path.is_file():
        return
    with _parsing(path) as stream:
        whole_lines = (line for line in stream if line.endswith("\n"))
        rows = csv.reader(whole_lines)
        header = next(rows, [])
        for row in rows:
            if len(row) == len(header) and row[0].isascii() and row[0].isdigit():
                yield row


@contextmanager
def _parsing(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            yield stream
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: damaged ({reason_of(error)}): restore or remove the file") from None


def read_thermo(path: Path) -> list[list[str]]:
    """Return the rows of `iterate_rows` as a list."""
    return list(iterate_rows(path))


@dataclass(frozen=True, eq=False)
class Thermo:
    """Columns of thermo.csv.

    Attributes:
        times: Times (rows,), fs.
        potential, kinetic, total: Energies (rows,), eV.
        temperature: Temperature (rows,), K.
        volume: Volume of the cell (rows,), angstrom^3; None without a cell.
    """

    times: FloatArray
    potential: FloatArray
    kinetic: FloatArray
    total: FloatArray
    temperature: FloatArray
    volume: FloatArray | None = None

    def chosen(self, rows: BoolArray) -> "Thermo":
        """Return the rows selected by a mask (rows,)."""
        volume = None if self.volume is None else self.volume[rows]
        return Thermo(**{name: column[rows] for name, column in self._columns.items()}, volume=volume)

    @property
    def _columns(self) -> dict[str, FloatArray]:
        names = ("times", "potential", "kinetic", "total", "temperature")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def read(cls, path: Path) -> tuple["Thermo | None", tuple[str, ...]]:
        """Read the columns of a thermo.csv file, or None without rows, and notes on missing data.

        Raises:
            DataError: A column is missing, or a row within the file is damaged.
        """
        if not path.is_file():
            return None, (f"no {path.name}: energies and temperature are not analyzed",)
        values = array("d")  # a list of rows would take ten times the memory
        notes: tuple[str, ...] = ()
        with _parsing(path) as stream:
            lines = csv.reader(stream)
            header = next(lines, [])
            missing = [name for name in COLUMNS[1:] if name not in header]
            if missing:
                raise DataError(f"{path}: has no column {missing[0]!r}")
            names = [*COLUMNS[1:], *(name for name in CELL_COLUMNS[:1] if name in header)]
            columns = [header.index(name) for name in names]
            for number, line in enumerate(lines, start=2):
                try:
                    if len(line) != len(header):
                        raise ValueError
                    values.extend([float(line[column]) for column in columns])
                except ValueError:
                    if next(lines, None) is not None:
                        raise DataError(f"{path}: line {number} is not a row of {len(header)} numbers") from None
                    notes = (f"{path.name} is truncated within its last line: its {number - 2} complete rows are used",)
        if not values:
            return None, (f"{path.name} has no rows: energies and temperature are not analyzed",)
        table = np.frombuffer(values).reshape(-1, len(columns))
        return cls(table[:, 0] * PICOSECOND, *table[:, 1:].T), notes


def read_latest(path: Path) -> dict[str, list[float]]:
    """Return the latest rows of a thermo.csv file by column, the newest last, in constant time.

    Damaged rows are left out: the complete file is read and checked by `Thermo.read`.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace").strip().split(",")
        size = path.stat().st_size
        file.seek(max(file.tell(), size - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")[:-1]
    if size > _TAIL:
        lines = lines[1:]  # the first line may be incomplete
    rows = [row for line in lines if len(row := _numbers(line)) == len(header)]
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _numbers(line: str) -> list[float]:
    """Return the cells of a row, or nothing if one of them is not a finite number."""
    try:
        row = [float(cell) for cell in line.split(",")]
    except ValueError:
        return []
    return row if all(map(math.isfinite, row)) else []
