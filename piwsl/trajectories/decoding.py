"""Decode trajectory files in the child process of `piwsl.runs.reader_process`.

The libraries for these formats crash or hang on damaged files. This module has few imports, because the child process
imports it (torch would take a second and 600 MB).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piwsl.errors import DataError, MissingDependencyError
from piwsl.runs.reader_process import Arrays
from piwsl.runs.untrusted import check_inside, unreadable_hdf5
from piwsl.units import NANOMETER, PICOSECOND

PIECE = 1000  # frames in memory at a time


def piece_ranges(frames: int) -> Iterator[tuple[int, int]]:
    """Yield the first frame and the last frame (exclusive) of each piece."""
    for first in range(0, frames, PIECE):
        yield first, min(first + PIECE, frames)


def angstrom_of(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert lengths from nm to angstrom in single precision."""
    return np.asarray(np.asarray(values, dtype=np.float32) * np.float32(NANOMETER))


def xtc_frames(path: str, frames: int) -> Iterator[Arrays]:
    """Yield positions and cells of an XTC file in angstrom, piece by piece."""
    from mdtraj.formats import XTCTrajectoryFile

    with XTCTrajectoryFile(path) as stream:
        for first, last in piece_ranges(frames):
            xyz, _, _, box = stream.read(last - first)
            arrays = {"positions": angstrom_of(xyz)}
            if box is not None and np.ndim(box):
                arrays["cells"] = angstrom_of(box)
            yield arrays


def mdtraj_frames(path: str, topology: str | None) -> Iterator[Arrays]:
    """Yield positions and cells in angstrom and times in fs of any file that mdtraj reads, piece by piece."""
    import mdtraj

    for piece in mdtraj.iterload(path, chunk=PIECE, **({} if topology is None else {"top": topology})):
        arrays: dict[str, NDArray[Any]] = {
            "positions": angstrom_of(piece.xyz),
            "times": np.asarray(piece.time, dtype=np.float64) * PICOSECOND,
        }
        if piece.unitcell_vectors is not None:
            arrays["cells"] = angstrom_of(piece.unitcell_vectors)
        yield arrays


def hdf5_head(path: str) -> Iterator[Arrays]:
    """Yield the numbers of frames and atoms, whether the file has velocities, and the times (frames,), fs."""
    with _open_hdf5(path) as file:
        tables = _tables(file, path)
        if "coordinates" not in tables or "time" not in tables:
            raise DataError(f"{path}: not an HDF5 trajectory of mdtraj: coordinates or time are missing")
        frames, atoms = tables["coordinates"].shape[:2]
        times = np.asarray(tables["time"][:frames], dtype=np.float64) * PICOSECOND
        if len(times) < frames:
            raise DataError(f"{path}: damaged: contains {frames} frames but {len(times)} times")
        numbers = np.array([frames, atoms, "velocities" in tables])
        yield {"numbers": numbers, "times": times}


def hdf5_frames(path: str, frames: int) -> Iterator[Arrays]:
    """Yield positions and cells of an HDF5 trajectory in angstrom, piece by piece."""
    with _open_hdf5(path) as file:
        tables = _tables(file, path)
        has_cells = "cell_lengths" in tables and "cell_angles" in tables
        for first, last in piece_ranges(frames):
            arrays: dict[str, NDArray[Any]] = {"positions": angstrom_of(tables["coordinates"][first:last])}
            if has_cells:
                lengths, angles = (
                    np.asarray(tables[name][first:last], dtype=np.float64) for name in ("cell_lengths", "cell_angles")
                )
                arrays |= {"lengths": lengths * NANOMETER, "angles": angles}
            yield arrays


def hdf5_velocities(path: str, frames: int) -> Iterator[Arrays]:
    """Yield velocities of an HDF5 trajectory in angstrom/fs, piece by piece."""
    with _open_hdf5(path) as file:
        table = _tables(file, path)["velocities"]
        for first, last in piece_ranges(frames):
            yield {"velocities": np.asarray(table[first:last], dtype=np.float64) * (NANOMETER / PICOSECOND)}


def hdf5_topology(path: str) -> Iterator[Arrays]:
    """Yield the JSON text of the topology in an HDF5 trajectory, as bytes."""
    with _open_hdf5(path) as file:
        if "topology" in file:
            check_inside(file, "topology")
        if "topology" not in file or not hasattr(file["topology"], "shape"):
            raise DataError(f"{path}: contains no topology: use the trajectory of a run, or a PDB file")
        value = file["topology"][()]
        text = value if isinstance(value, bytes) else np.asarray(value).reshape(-1)[0]
        yield {"topology": np.frombuffer(bytes(text), dtype=np.uint8)}


_SHAPES = {
    "coordinates": (None, None, 3), "velocities": (None, None, 3), "time": (None,),
    "cell_lengths": (None, 3), "cell_angles": (None, 3),
}  # fmt: skip
_VERSION, _FLAGS = 8, 11  # offsets in the superblock, bytes
_CHUNK_CACHE = 1 << 20  # bytes per data set
_MOST_COMPRESSION = 1100  # largest compression ratio accepted; deflate reaches 1032


def _tables(file: Any, path: str) -> dict[str, Any]:
    """Return the data sets of a trajectory by name.

    Raises:
        DataError: A data set has an unexpected shape or type, or is larger than the file.
    """
    tables = {}
    for name, shape in _SHAPES.items():
        if name not in file:
            continue
        check_inside(file, name)
        table = file[name]
        actual = getattr(table, "shape", None)
        is_right = actual is not None and len(actual) == len(shape) and table.dtype.kind == "f"
        if not is_right or not all(wanted in (None, got) for wanted, got in zip(shape, actual or (), strict=True)):
            raise DataError(f"{path}: damaged: {name} has an unexpected shape or type")
        packed = _MOST_COMPRESSION if table.id.get_create_plist().get_nfilters() else 1
        if table.size * table.dtype.itemsize > packed * Path(path).stat().st_size:
            raise DataError(f"{path}: damaged: {name} is larger than the file")
        tables[name] = table
    atoms = {tables[name].shape[1] for name in ("coordinates", "velocities") if name in tables}
    if len(atoms) > 1:
        raise DataError(f"{path}: damaged: velocities and coordinates have different numbers of atoms")
    return tables


def _open_hdf5(path: str) -> Any:
    """Open a file, in SWMR mode only if its superblock is marked as open for writing.

    In SWMR mode, HDF5 retries failed reads for a long time, including reads that fail in a damaged file.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingDependencyError("h5py", "an HDF5 file", "data") from None
    with Path(path).open("rb") as stream:
        block = stream.read(_FLAGS + 1)
    is_open = len(block) > _FLAGS and block[_VERSION] == 3 and bool(block[_FLAGS])
    options = {"swmr": True} if is_open else {}
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, locking=False, **options)
    except OSError as error:
        raise unreadable_hdf5(path, error) from None
