"""HDF5 trajectories in mdtraj's layout ("HDF5 Format", version 1.1), with velocities and forces."""

import json
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import cell_to_cellpar

from piwsl._version import __version__
from piwsl.data.formats.hdf5 import h5py_module
from piwsl.errors import DataError, reason_of
from piwsl.runs.files import writing
from piwsl.runs.json_text import json_text
from piwsl.runs.reader_process import read_apart
from piwsl.structures.bonds import bonded_pairs
from piwsl.structures.cells import cell_vectors
from piwsl.trajectories.decoding import hdf5_frames, hdf5_head, hdf5_topology, hdf5_velocities
from piwsl.trajectories.frame_source import Piece, TrajectoryFile, checked_cells
from piwsl.trajectories.frame_writer import AppendFile, OutputFrame, too_few
from piwsl.trajectories.orientation import oriented
from piwsl.typing import FloatArray, IntArray
from piwsl.units import NANOMETER, PICOSECOND

_CHUNK = 64  # largest number of frames in a chunk
_CHUNK_BYTES = 1 << 18  # approximate size of a chunk of positions
_METADATA, _CHUNK_METADATA = 1 << 16, 256  # bytes; upper limits for the metadata of an empty file and of a chunk
_FORMAT = ("v110", "v110")  # the oldest format with SWMR, for compatibility with other versions
_ERRORS = (OSError, RuntimeError)  # exceptions of h5py


def open_hdf5_trajectory(path: Path) -> TrajectoryFile:
    """Open an HDF5 file in mdtraj's layout and count its frames. The file may still grow.

    Raises:
        DataError: The file is damaged.
    """
    head = next(iter(read_apart(hdf5_head, path)))
    frames, atoms, has_velocities = (int(number) for number in head["numbers"])

    def read() -> Iterator[Piece]:
        for arrays in read_apart(hdf5_frames, path, frames):
            cells = None
            if "lengths" in arrays:
                cells = checked_cells(path, cell_vectors(arrays["lengths"], arrays["angles"]))
            yield arrays["positions"], cells

    def read_velocities() -> Iterator[FloatArray]:
        for arrays in read_apart(hdf5_velocities, path, frames):
            yield arrays["velocities"]

    return TrajectoryFile(
        atoms, frames, head["times"], read, read_velocities=read_velocities if has_velocities else None
    )


def hdf5_species(path: Path) -> IntArray:
    """Return the atomic numbers (atoms,) from the topology in an HDF5 trajectory.

    Raises:
        DataError: The file has no topology or is damaged.
    """
    text = next(iter(read_apart(hdf5_topology, path)))["topology"].tobytes()
    try:
        atoms = [
            atom for chain in json.loads(text)["chains"] for residue in chain["residues"] for atom in residue["atoms"]
        ]
        places = [int(atom["index"]) for atom in atoms]
        numbers = [atomic_numbers[str(atom["element"]).capitalize()] for atom in atoms]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: its topology is damaged ({reason_of(error)})") from None
    if sorted(places) != list(range(len(places))) or not places:
        raise DataError(f"{path}: its topology is damaged: the atom indices are not consecutive from 0")
    return np.array(numbers, dtype=np.int64)[np.argsort(places)]


class Hdf5Writer:
    """Write an HDF5 file in HDF5's single-writer, multiple-reader mode (SWMR).

    Flushed frames survive if the process is killed. Other processes can read the growing file with ``swmr=True``.
    Frames are buffered until a flush. Periodic structures are rotated to the standard orientation of the cell.

    Args:
        path: Path of the file.
        structure: Structure whose atoms move.
        write: Names of the optional arrays to write: ``velocities``, ``forces``.
        keep: Number of frames of an existing file to keep; the file is truncated after them.

    Raises:
        MissingDependencyError: The package h5py is not installed.
        RunDirectoryError: The existing file contains fewer frames, or the file cannot be written.
    """

    def __init__(self, path: Path, structure: Atoms, write: tuple[str, ...], keep: int = 0) -> None:
        self._path, self._frames = path, keep
        self._waiting: list[OutputFrame] = []
        module = h5py_module()
        if keep:
            _check_frames(path, keep)
        else:
            file = AppendFile(path)
            file.add(_empty(structure, write))
            file.close()
        with writing(path, _ERRORS):
            self._room = path.stat().st_size + _METADATA
            _take_room(path, self._room)
            self._file = module.File(path, "r+", libver=_FORMAT, locking=False)
            for name in _names(self._file):
                self._file[name].resize(keep, axis=0)
            self._file.swmr_mode = True
        tables = [self._file[name] for name in _names(self._file)]
        self._chunk = int(tables[0].chunks[0])
        self._chunk_bytes = sum(4 * int(np.prod(table.chunks)) + _CHUNK_METADATA for table in tables)

    def write(self, frame: OutputFrame) -> None:
        """Append a frame."""
        self._waiting.append(oriented(frame))
        if len(self._waiting) >= self._chunk:
            self.flush()

    def flush(self) -> None:
        """Write buffered frames to the file."""
        if not self._waiting:
            return
        frames, self._waiting = self._waiting, []
        arrays = self._arrays(frames)
        first, last = self._frames, self._frames + len(frames)
        chunks = -(-last // self._chunk) - -(-first // self._chunk)
        with writing(self._path, _ERRORS):
            if chunks:
                self._room += chunks * self._chunk_bytes
                _take_room(self._path, self._room)
            # Readers take the number of frames from the coordinates, so the coordinates are written last.
            for name in sorted(arrays, key="coordinates".__eq__):
                data = self._file[name]
                data.resize(last, axis=0)
                data[first:] = arrays[name]
                data.flush()
        self._frames = last

    def close(self) -> None:
        """Flush and close the file. Further calls have no effect."""
        if not self._file:
            return
        try:
            self.flush()
        finally:
            with writing(self._path, _ERRORS):
                self._file.close()

    def _arrays(self, frames: list[OutputFrame]) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "coordinates": [frame.positions / NANOMETER for frame in frames],
            "time": [frame.time / PICOSECOND for frame in frames],
            "velocities": [_scaled(frame.velocities, PICOSECOND / NANOMETER) for frame in frames],
            "forces": [frame.forces for frame in frames],
        }
        if "cell_lengths" in self._file:
            parameters = np.array([cell_to_cellpar(frame.cell) for frame in frames])
            columns |= {"cell_lengths": parameters[:, :3] / NANOMETER, "cell_angles": parameters[:, 3:]}
        return {name: np.asarray(columns[name], dtype=np.float32) for name in _names(self._file)}


def _names(file: Any) -> list[str]:
    return [name for name in file if name != "topology"]


def _take_room(path: Path, size: int) -> None:
    """Reserve space by extending a file with zeros, because HDF5 cannot recover from a full disk."""
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        missing = size - end
        try:
            while missing > 0:
                missing -= file.write(bytes(min(missing, 1 << 20)))
        except OSError:
            file.truncate(end)
            raise


def _check_frames(path: Path, keep: int) -> None:
    """Release a file of a killed process, and check that it contains at least ``keep`` frames."""
    frames = 0
    with writing(path, _ERRORS):
        if path.is_file() and path.stat().st_size:
            release(path)
            with h5py_module().File(path, "r", locking=False) as file:
                frames = min(len(file[name]) for name in _names(file))
    if frames < keep:
        raise too_few(path, frames, keep)


def _empty(structure: Atoms, write: tuple[str, ...]) -> bytes:
    """Return the contents of a file without frames."""
    attributes = {"conventions": "Pande", "conventionVersion": "1.1", "program": "piwsl"}
    attributes |= {"programVersion": __version__, "application": "piwsl", "title": "piwsl md"}
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
    frames = min(_CHUNK, _CHUNK_BYTES // (12 * count) + 1)
    content = BytesIO()
    with h5py_module().File(content, "w", libver=_FORMAT) as file:
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text)
        file["topology"] = np.array([json_text(_topology(structure)).encode()])
        for name, (shape, unit) in tables.items():
            data = file.create_dataset(name, (0, *shape), "f4", maxshape=(None, *shape), chunks=(frames, *shape))
            data.attrs["units"] = np.bytes_(unit)
    return content.getvalue()


def _scaled(values: Any, factor: float) -> Any:
    return None if values is None else values * factor


def _topology(structure: Atoms) -> dict[str, Any]:
    """Return a topology with one residue in mdtraj's format."""
    atoms = [
        {"index": index, "name": f"{symbol}{index}", "element": symbol}
        for index, symbol in enumerate(structure.get_chemical_symbols())
    ]
    residue = {"index": 0, "resSeq": 1, "name": "MOL", "segmentID": "", "atoms": atoms}
    bonds = [[int(first), int(second)] for first, second in bonded_pairs(structure)]
    return {"chains": [{"index": 0, "residues": [residue]}], "bonds": bonds}


_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION, _FLAGS, _END_OF_FILE, _CHECKSUM = 8, 11, 28, 44  # offsets in the superblock, bytes
_SIZE = 48  # bytes, for offsets and lengths of eight bytes
_MASK = 0xFFFFFFFF


def release(path: Path) -> bool:
    """Mark a file as closed with all of its bytes in use, and return whether it was marked as open.

    Raises:
        OSError: The file cannot be written, or is not an HDF5 file with a superblock of version 3.
    """
    with path.open("r+b") as file:
        block = bytearray(file.read(_SIZE))
        if len(block) < _SIZE or block[:8] != _SIGNATURE or block[_VERSION] != 3 or block[9:11] != b"\x08\x08":
            raise OSError("not an HDF5 file with a superblock of version 3")
        if not block[_FLAGS]:
            return False
        block[_FLAGS] = 0
        block[_END_OF_FILE : _END_OF_FILE + 8] = struct.pack("<Q", file.seek(0, 2))
        block[_CHECKSUM:] = struct.pack("<I", checksum(bytes(block[:_CHECKSUM])))
        file.seek(0)
        file.write(block)
    return True


def checksum(content: bytes) -> int:
    """Return the checksum of HDF5 metadata: Jenkins' hash lookup3 (2006), little endian, start value 0."""
    a = b = c = (0xDEADBEEF + len(content)) & _MASK
    while len(content) > 12:
        a, b, c = _added(a, b, c, content[:12])
        for shift in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _MASK) ^ _turned(c, shift)
            c = (c + b) & _MASK
            a, b, c = b, c, a
        content = content[12:]
    if not content:
        return c
    a, b, c = _added(a, b, c, content)
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, shift)) & _MASK
        a, b, c = b, c, a
    return b


def _added(a: int, b: int, c: int, content: bytes) -> tuple[int, ...]:
    words = struct.unpack("<3I", content.ljust(12, b"\0"))
    return tuple((old + word) & _MASK for old, word in zip((a, b, c), words, strict=True))


def _turned(value: int, shift: int) -> int:
    return ((value << shift) | (value >> (32 - shift))) & _MASK
