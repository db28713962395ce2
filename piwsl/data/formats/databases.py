"""ASE databases: SQLite files row by row, JSON files as a whole."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
from ase.db.jsondb import JSONDatabase
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database
from ase.io.formats import UnknownFileTypeError

from piwsl.data.formats.labels import EV_ANGSTROM, find_labels, labeled_frame, results_of
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess, UnknownLayoutError
from piwsl.errors import DataError, reason_of
from piwsl.units import LabelUnits

RESULTS = ("energy", "forces", "stress")


def read_sqlite(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Open an ASE database in an SQLite file (.db); frames are read on access.

    Labels are ``REF_...`` among the key-value pairs and data of a row; without any of them, its results.

    Raises:
        UnknownLayoutError: the SQLite file is not an ASE database.
        DataError: the file is damaged or contains no row.
    """
    frames = SqliteFrames(path, units or EV_ANGSTROM)
    frames.probe()
    return FrameSet(frames, path, files=(path,))


def read_json(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read an ASE database in a JSON file into memory.

    Raises:
        UnknownLayoutError: the JSON file is not an ASE database.
        DataError: the file is not JSON, or a row is not a structure.
    """
    try:
        rows = list(JSONDatabase(str(path)).select())
    except (UnknownFileTypeError, AttributeError, TypeError, KeyError, AssertionError):
        raise UnknownLayoutError(f"{path}: a JSON file, but not an ASE database") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from None
    if not rows:
        raise DataError(f"{path}: contains no structure")
    return FrameSet([row_frame(path, i, row, units or EV_ANGSTROM) for i, row in enumerate(rows)], path, files=(path,))


def row_frame(path: Path, index: int, row: AtomsRow, units: LabelUnits) -> Frame:
    """Convert a row of an ASE database to a frame.

    Raises:
        DataError: a label has the wrong shape or is unreasonably large.
    """
    named = {**row.data, **row.key_value_pairs}
    labels = find_labels(named, {name: row.get(name) for name in RESULTS})
    pbc = (bool(row.pbc[0]), bool(row.pbc[1]), bool(row.pbc[2]))
    return labeled_frame(path, index, row["numbers"], row.positions, np.asarray(row.cell), pbc, labels, units)


class SqliteFrames(LazyFrames):
    """The rows of an ASE database, in the order of their ids.

    Raises:
        UnknownLayoutError, DataError: see `read_sqlite`.
    """

    damage = (*LazyFrames.damage, sqlite3.Error)

    def __init__(self, path: Path, units: LabelUnits) -> None:
        self._ids = _ids(path)
        super().__init__(path, len(self._ids))
        self._units = units
        self._database = PerProcess(lambda: _ReadOnly(path), _ReadOnly.close)

    def read(self, index: int) -> Frame:
        """Read one row."""
        row = next(self._database().select(id=int(self._ids[index])), None)
        if row is None:
            raise KeyError(f"no row {self._ids[index]}")
        return row_frame(self.path, index, row, self._units)

    def __reduce__(self) -> tuple[type["SqliteFrames"], tuple[Path, LabelUnits]]:
        return SqliteFrames, (self.path, self._units)


class _ReadOnly(SQLite3Database):
    """ASE's database without the creation of tables in any SQLite file that it opens."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), use_lock_file=False, serial=True)
        self.connection: sqlite3.Connection = _connect(path)  # stays open; otherwise every query would open the file
        self.change_count = 0

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _connect(path: Path | str) -> sqlite3.Connection:
    uri = f"file:{quote(str(Path(path).resolve()))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=20, check_same_thread=False)


def _ids(path: Path) -> np.ndarray:
    try:
        connection = _connect(path)
        try:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if "systems" not in tables:
                raise UnknownLayoutError(
                    f"{path}: an SQLite file with the tables {', '.join(tables) or '(none)'}; expected an ASE database"
                )
            rows = connection.execute("SELECT id FROM systems ORDER BY id")
            return np.fromiter((number for (number,) in rows), dtype=np.int64)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DataError(f"{path}: not a readable SQLite file, or damaged ({error})") from None


def write_sqlite(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames as an ASE database in an SQLite file; labels become results of a calculation.

    Raises:
        OSError: The disk refuses.
    """
    try:
        with SQLite3Database(str(path), use_lock_file=False, serial=True) as database:
            for frame in frames:
                database.write(results_of(frame))
    except sqlite3.Error as error:
        raise OSError(reason_of(error)) from None
