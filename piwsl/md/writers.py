"""What a run writes while it goes: trajectory, topology, thermo.csv."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import mdtraj
import numpy as np
from ase import Atoms
from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile

from piwsl.data.files import atomic_path, write_text
from piwsl.errors import DataError, RunDirectoryError
from piwsl.md.analysis.dcd import DcdFile
from piwsl.md.engines.base import Energies
from piwsl.md.protocol import MDProtocol
from piwsl.typing import FloatArray, IntArray
from piwsl.units import NANOMETER, PICOSECOND

THERMO_COLUMNS = ("step", "time [ps]", "potential [eV]", "kinetic [eV]", "total [eV]", "temperature [K]")
_COPY_FRAMES = 1000


@dataclass(frozen=True)
class OutputFrame:
    """A frame of a trajectory: time in fs, positions in angstrom, velocities in angstrom/fs, forces in eV/angstrom."""

    step: int
    time: float
    positions: FloatArray
    cell: FloatArray | None = None
    velocities: FloatArray | None = None
    forces: FloatArray | None = None


def open_trajectory(path: Path, structure: Atoms, protocol: MDProtocol, keep: int) -> "TrajectoryWriter":
    """The writer of a protocol's format."""
    return TrajectoryWriter(path, protocol.trajectory_interval, protocol.timestep, keep)


class TrajectoryWriter:
    """Frames of positions, a frame every ``interval`` steps from step ``interval`` on.

    Args:
        path: file; its suffix is ``.dcd`` or ``.xtc``.
        interval: steps between frames.
        timestep: fs.
        keep: frames of an existing file to keep; the rest of it is cut. The file is replaced as a whole, so
            an interruption here leaves the old one.

    Raises:
        RunDirectoryError: the existing file holds fewer frames.
    """

    def __init__(self, path: Path, interval: int, timestep: float, keep: int = 0) -> None:
        self._interval = interval
        self._timestep = timestep
        self._open = DCDTrajectoryFile if path.suffix == ".dcd" else XTCTrajectoryFile
        self._scale = 1.0 if path.suffix == ".dcd" else 1 / NANOMETER
        self._frames = 0
        if keep == 0:
            self._file: Any = self._open(str(path), "w")
            return
        with atomic_path(path) as temporary:
            self._file = self._open(str(temporary), "w")
            for positions in read_frames(path, keep):
                self._write(positions)
            if self._frames < keep:
                raise RunDirectoryError(f"{path}: holds {self._frames} frames, the restart needs {keep}: start anew")

    def write(self, frame: OutputFrame) -> None:
        """Add a frame."""
        self._write(np.asarray(frame.positions * self._scale, dtype=np.float32)[None])

    def flush(self) -> None:
        """Hand everything to the operating system; DCD files are written without a buffer."""
        if isinstance(self._file, XTCTrajectoryFile):
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, frames: FloatArray) -> None:
        if isinstance(self._file, XTCTrajectoryFile):
            steps = (np.arange(self._frames, self._frames + len(frames)) + 1) * self._interval
            times = (steps * self._timestep / PICOSECOND).astype(np.float32)
            self._file.write(frames, time=times, step=steps.astype(np.int32))
        else:
            self._file.write(frames)
        self._frames += len(frames)


def read_frames(path: Path, limit: int) -> Iterator[FloatArray]:
    """The first frames of a trajectory in its own unit of length, in pieces (m, n, 3).

    A last frame that was cut in the middle is left out.
    """
    if not path.is_file():
        return
    try:
        if path.suffix == ".dcd":
            file = DcdFile.open(path)
            for first in range(0, min(limit, file.frames), _COPY_FRAMES):
                yield file.read(first, min(first + _COPY_FRAMES, limit, file.frames))
            return
        with XTCTrajectoryFile(str(path)) as xtc:
            for _ in range(limit):  # one by one: a piece that runs into a cut frame fails as a whole
                frames = xtc.read(n_frames=1)[0]
                if len(frames) == 0:
                    return
                yield frames
    except (RuntimeError, OSError, DataError):
        return


class ThermoWriter:
    """thermo.csv: energies and temperature, one row per report interval.

    Args:
        path: file.
        keep_until: keep rows of an existing file up to this step, cut the rest.
    """

    def __init__(self, path: Path, timestep: float, keep_until: int, masses: FloatArray, periodic: bool) -> None:
        self._timestep = timestep
        rows = [row for row in read_thermo(path) if int(row[0]) <= keep_until] if keep_until > 0 else []
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([THERMO_COLUMNS, *rows])
        write_text(path, text.getvalue())
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, step: int, energies: Energies, temperature: float, cell: FloatArray | None = None) -> None:
        """Add a row."""
        total = energies.potential + energies.kinetic
        self._file.write(
            f"{step},{step * self._timestep / PICOSECOND:.6g},{energies.potential:.8f},{energies.kinetic:.8f},"
            f"{total:.8f},{temperature:.3f}\n"
        )

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
    rows = list(csv.reader(lines))[1:]
    return [row for row in rows if len(row) == len(THERMO_COLUMNS) and row[0].isdigit()]


def write_topology(path: Path, atoms: Atoms, bonds: IntArray) -> None:
    """Write a PDB file of the start structure for mdtraj and VMD: one residue UNL, atoms C1, C2, ..., H1, ..."""
    topology = mdtraj.Topology()
    residue = topology.add_residue("UNL", topology.add_chain())
    counts: dict[str, int] = {}
    for symbol in atoms.get_chemical_symbols():
        counts[symbol] = counts.get(symbol, 0) + 1
        topology.add_atom(f"{symbol}{counts[symbol]}", mdtraj.element.get_by_symbol(symbol), residue)
    for first, second in bonds:
        topology.add_bond(topology.atom(int(first)), topology.atom(int(second)))
    trajectory = mdtraj.Trajectory(np.asarray(atoms.positions / NANOMETER, dtype=np.float32), topology)
    with atomic_path(path) as temporary:
        trajectory.save_pdb(str(temporary))
