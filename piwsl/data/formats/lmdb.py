"""ASE databases in LMDB files (.aselmdb, .lmdb), as fairchem's data sets use them.

An entry is a row of an ASE database as JSON, compressed by zlib; its key is its number, counted from 1. ``nextid`` and
``deleted_ids`` define which numbers exist. Files with pickled entries are never read.
"""

import zlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from ase.db.core import now
from ase.db.row import AtomsRow
from ase.io.jsonio import decode, encode

from piwsl.data.formats.databases import row_frame
from piwsl.data.formats.labels import EV_ANGSTROM, results_of
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess, UnknownLayoutError
from piwsl.errors import DataError, MissingDependencyError, reason_of
from piwsl.units import LabelUnits

if TYPE_CHECKING:
    import lmdb

NEXT_ID = b"nextid"
DELETED_IDS = b"deleted_ids"
_ROWS_AT_ONCE = 500
_FIRST_MAP_SIZE = 1 << 26  # bytes; doubled when the file is full

# A process may open an LMDB file only once.
_OPEN: WeakValueDictionary[tuple[int, int], PerProcess["lmdb.Environment"]] = WeakValueDictionary()


def read_lmdb(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Open an ASE database in an LMDB file; frames are read on access.

    Labels are ``REF_...`` among the key-value pairs and data of a row; without any of them, its results.

    Raises:
        UnknownLayoutError: the LMDB file is not an ASE database.
        DataError: the file is damaged or contains no row.
        MissingDependencyError: lmdb is not installed.
    """
    frames = LmdbFrames(path, units or EV_ANGSTROM)
    frames.probe()
    return FrameSet(frames, path, files=(path,))


class LmdbFrames(LazyFrames):
    """The entries of an LMDB file, in the order of their numbers.

    Raises:
        UnknownLayoutError, DataError: see `read_lmdb`.
    """

    damage = (*LazyFrames.damage, zlib.error)

    def __init__(self, path: Path, units: LabelUnits) -> None:
        self._environment = _shared(path)
        self._ids = _ids(path, self._environment())
        super().__init__(path, len(self._ids))
        self._units = units

    def read(self, index: int) -> Frame:
        """Read one entry."""
        with self._environment().begin() as transaction:
            entry = transaction.get(str(self._ids[index]).encode())
        if entry is None:
            raise KeyError(f"no entry {self._ids[index]}")
        return row_frame(self.path, index, AtomsRow(_decoded(entry)), self._units)

    def __reduce__(self) -> tuple[type["LmdbFrames"], tuple[Path, LabelUnits]]:
        return LmdbFrames, (self.path, self._units)


def write_lmdb(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames as an ASE database in an LMDB file; labels become results of a calculation.

    Raises:
        MissingDependencyError: lmdb is not installed.
        OSError: The disk refuses.
    """
    library = _lmdb()
    options = {"subdir": False, "lock": False, "map_size": _FIRST_MAP_SIZE, "sync": False}
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
    content.update(cell=np.asarray(row.cell), ctime=now(), mtime=now(), user="", data={})
    return _encoded(content)


def _encoded(content: object) -> bytes:
    return zlib.compress(encode(content).encode())


def _decoded(entry: bytes) -> Any:
    return decode(zlib.decompress(entry).decode())


def _lmdb() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError:
        raise MissingDependencyError("lmdb", "an LMDB file", "data") from None
    return lmdb


def _shared(path: Path) -> PerProcess["lmdb.Environment"]:
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    environment = _OPEN.get(key)
    if environment is None:
        environment = PerProcess(lambda: _opened(path), lambda handle: handle.close())
        environment()
        _OPEN[key] = environment
    return environment


def _opened(path: Path) -> "lmdb.Environment":
    library = _lmdb()
    try:
        environment: lmdb.Environment = library.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=False, meminit=False
        )
    except library.Error as error:
        raise DataError(f"{path}: not a readable LMDB file ({reason_of(error)})") from None
    # LMDB maps the file into memory: access to a page beyond its end would kill the process.
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if path.stat().st_size < expected:
        environment.close()
        raise DataError(f"{path}: truncated, {path.stat().st_size} of {expected} bytes: copy or download it again")
    return environment


def _ids(path: Path, environment: "lmdb.Environment") -> np.ndarray:
    with environment.begin() as transaction:
        next_id, deleted = transaction.get(NEXT_ID), transaction.get(DELETED_IDS)
        if next_id is None:
            first = islice(transaction.cursor().iternext(values=False), 5)
            keys = ", ".join(bytes(key).decode(errors="replace") for key in first)
            raise UnknownLayoutError(
                f"{path}: an LMDB file with the keys {keys or '(none)'}, ...; expected those of an ASE database "
                f"({NEXT_ID.decode()}, 1, 2, ...)"
            )
    try:
        numbers = np.arange(1, int(_decoded(next_id)), dtype=np.int64)
        gone = np.array(_decoded(deleted) if deleted else [], dtype=np.int64)
    except (zlib.error, ValueError, TypeError) as error:
        raise UnknownLayoutError(f"{path}: an LMDB file, but not with the entries of ASE ({error})") from None
    return np.setdiff1d(numbers, gone, assume_unique=True)
