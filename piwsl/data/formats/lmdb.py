"""ASE databases in LMDB files (.aselmdb, .lmdb), the format of fairchem's data sets.

An entry is a row of an ASE database as JSON, compressed with zlib; its key is its number, starting at 1. ``nextid`` and
``deleted_ids`` determine which numbers exist. Files with pickled entries are never read.
"""

import zlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.db.core import now
from ase.db.row import AtomsRow
from ase.io.jsonio import encode

from piwsl.data.formats.databases import check_metadata, content_of, decoded, row_frame, surveyed
from piwsl.data.formats.labels import EV_ANGSTROM, results_of, stored_data
from piwsl.data.formats.lmdb_pages import LmdbFile
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess, UnknownLayoutError
from piwsl.data.names import shown
from piwsl.errors import DataError, MissingDependencyError, reason_of
from piwsl.runs.untrusted import inflate, reading
from piwsl.units import LabelUnits

if TYPE_CHECKING:
    import lmdb

NEXT_ID = b"nextid"
DELETED_IDS = b"deleted_ids"
METADATA = b"metadata"
_MOST_DELETED = 1000  # deleted numbers per existing entry
_ROWS_AT_ONCE = 500
_FIRST_MAP_SIZE = 1 << 26  # bytes


def read_lmdb(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Open an ASE database in an LMDB file; frames are read on access.

    Labels are read from ``REF_...`` keys among the key-value pairs and data of a row. If a row has no such key, its
    calculator results are used.

    Raises:
        UnknownLayoutError: The LMDB file is not an ASE database.
        DataError: The file is damaged or contains no row.
    """
    frames = LmdbFrames(path, units or EV_ANGSTROM)
    frames.probe()
    frames.check_metadata()
    return surveyed(path, frames, lambda index: frames.row(index))


class LmdbFrames(LazyFrames):
    """Frames from the entries of an LMDB file, in the order of their numbers.

    Raises:
        UnknownLayoutError, DataError: The file cannot be used; see `read_lmdb`.
    """

    def __init__(self, path: Path, units: LabelUnits) -> None:
        self._file = PerProcess(lambda: LmdbFile(path), LmdbFile.close)
        with reading(path, "cannot be read as LMDB"):
            self._ids = _ids(path, self._file())
        super().__init__(path, len(self._ids))
        self._units = units

    def row(self, index: int) -> tuple[AtomsRow, LabelUnits]:
        """Return one entry as a row, and the units of the file."""
        entry = self._file().get(str(self._ids[index]).encode())
        if entry is None:
            raise KeyError(f"no entry {self._ids[index]}")
        return AtomsRow(content_of(self.path, index, decoded(inflate(entry)))), self._units

    def check_metadata(self) -> None:
        """Compare the units stated in the metadata of the file with the units in use.

        Raises:
            DataError: The metadata state other units, or are damaged.
        """
        entry = self._file().get(METADATA)
        if entry is not None:
            with reading(self.path, "its metadata cannot be read"):
                check_metadata(self.path, decoded(inflate(entry)), self._units)

    def read(self, index: int) -> Frame:
        """Read one entry as a frame."""
        return row_frame(self.path, index, *self.row(index))

    def __reduce__(self) -> tuple[type["LmdbFrames"], tuple[Path, LabelUnits]]:
        return LmdbFrames, (self.path, self._units)


def write_lmdb(path: Path, frames: Iterable[Frame], map_size: int = _FIRST_MAP_SIZE) -> None:
    """Write frames to an ASE database in an LMDB file, with labels stored as calculator results.

    Args:
        path: Path of the file.
        frames: Frames to be written.
        map_size: Initial size of the file, bytes; doubled when the file is full.

    Raises:
        MissingDependencyError: The package lmdb is not installed.
        OSError: The file cannot be written.
    """
    library = _lmdb()
    options = {"subdir": False, "lock": False, "map_size": map_size, "sync": False}
    try:
        with library.open(str(path), **options) as environment:
            remaining, written = iter(frames), 0
            while rows := [_entry(frame) for frame in islice(remaining, _ROWS_AT_ONCE)]:
                entries = {str(written + i).encode(): row for i, row in enumerate(rows, start=1)}
                written += len(rows)
                entries[NEXT_ID] = _encoded(written + 1)
                _put(library, environment, entries)
            environment.sync(True)
    except library.Error as error:
        raise OSError(reason_of(error).removeprefix(f"{path}: ")) from None


def _put(library: Any, environment: "lmdb.Environment", entries: dict[bytes, bytes]) -> None:
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in entries.items():
                    transaction.put(key, value)
            return
        except library.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _entry(frame: Frame) -> bytes:
    row = AtomsRow(results_of(frame))
    content = {name: value for name, value in vars(row).items() if not name.startswith("_")}
    content.update(cell=np.asarray(row.cell), ctime=now(), mtime=now(), user="", data=stored_data(frame))
    return _encoded(content)


def _encoded(content: object) -> bytes:
    return zlib.compress(encode(content).encode())


def _lmdb() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError:
        raise MissingDependencyError("lmdb", "an LMDB file", "data") from None
    return lmdb


def _ids(path: Path, file: LmdbFile) -> np.ndarray:
    next_id, deleted = file.get(NEXT_ID), file.get(DELETED_IDS)
    if next_id is None:
        keys = ", ".join(shown(key.decode(errors="replace")) for key in file.keys(5))
        raise UnknownLayoutError(
            f"{path}: an LMDB file with the keys {keys or '(none)'}, ...; expected the keys of an ASE database "
            f"({NEXT_ID.decode()}, 1, 2, ...)"
        )
    try:
        last = decoded(inflate(next_id))
        gone = np.unique(np.array(decoded(inflate(deleted)) if deleted else [])).astype(np.int64)
        if type(last) is not int:
            raise ValueError(f"{NEXT_ID.decode()} is not a number")
    except (zlib.error, ValueError, TypeError) as error:
        raise UnknownLayoutError(
            f"{path}: an LMDB file, but its entries are not those of ASE ({reason_of(error)})"
        ) from None
    if last - 1 - len(gone) > file.entries:
        raise DataError(f"{path}: damaged, {last - 1 - len(gone)} structures in {file.entries} entries")
    if last - 1 > _MOST_DELETED * file.entries:
        raise DataError(f"{path}: damaged, {file.entries} entries are numbered up to {last - 1}")
    return np.setdiff1d(np.arange(1, last, dtype=np.int64), gone)
