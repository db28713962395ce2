"""Writing the packed format."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from piwsl.data.frames import Frame
from piwsl.data.hdf5_file import h5py_module
from piwsl.data.packed import BLOCK, FIELDS, FORMAT, OFFSETS, VERSION, Field

if TYPE_CHECKING:
    import h5py

# Small chunks: one frame is read with its whole chunk.
_CHUNK_ATOMS = 1024
_CHUNK_FRAMES = 256


def write_packed(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames, a block at a time.

    Raises:
        MissingDependencyError: without h5py.
    """
    with h5py_module().File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for name, known in (*FIELDS.items(), (OFFSETS, Field(False, (), "i8", 0))):
            _create(file, name, known)
        file[OFFSETS].resize(1, axis=0)
        remaining = iter(frames)
        while block := list(islice(remaining, BLOCK)):
            _append(file, block)


def _create(file: "h5py.File", name: str, known: Field) -> None:
    chunk = _CHUNK_ATOMS if known.per_atom else _CHUNK_FRAMES
    array = file.create_dataset(
        name,
        shape=(0, *known.shape),
        maxshape=(None, *known.shape),
        chunks=(chunk, *known.shape),
        dtype=known.dtype,
        fillvalue=known.missing,
    )
    if known.unit:
        array.attrs["unit"] = known.unit


def _append(file: "h5py.File", block: Sequence[Frame]) -> None:
    for name, known in FIELDS.items():
        rows = [getattr(frame, name) for frame in block]
        values = np.concatenate(rows) if known.per_atom else np.array(rows)
        array = file[name]
        start = len(array)
        array.resize(start + len(values), axis=0)
        if not np.array_equal(values, np.full_like(values, known.missing), equal_nan=known.dtype == "f8"):
            array[start:] = values
    offsets = file[OFFSETS]
    known_frames, atoms = len(offsets), int(offsets[-1])
    offsets.resize(known_frames + len(block), axis=0)
    offsets[known_frames:] = atoms + np.cumsum([len(frame.species) for frame in block])
