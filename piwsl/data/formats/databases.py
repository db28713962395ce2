"""ASE databases: SQLite files row by row, JSON files as a whole."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ase.calculators.calculator import all_properties
from ase.db.core import bytes_to_object
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database
from ase.io.jsonio import fix_int_keys_in_dicts, numpyfy, object_hook

from piwsl.data.charges import ChargeSpin, stated_charge
from piwsl.data.formats.label_counter import LabelCounter
from piwsl.data.formats.labels import (
    EV_ANGSTROM,
    RESULTS,
    RawLabels,
    find_labels,
    labeled_frame,
    periodicity,
    results_of,
    stored_data,
)
from piwsl.data.formats.stated_units import check_stated_units
from piwsl.data.formats.traj import check_ndarray
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess, UnknownLayoutError
from piwsl.errors import DataError, PiwslError, reason_of
from piwsl.runs.untrusted import parse_json, reading
from piwsl.units import LabelUnits

_LOOKED_AT = 20  # number of rows whose names are reported
_SMALLEST_ROW = 16  # bytes of an SQLite file


def read_sqlite(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Open an ASE database in an SQLite file (.db); frames are read on access.

    Labels are read from ``REF_...`` keys among the key-value pairs and data of a row. If a row has no such key, its
    calculator results are used.

    Raises:
        UnknownLayoutError: The SQLite file is not an ASE database.
        DataError: The file is damaged or contains no row.
    """
    frames = SqliteFrames(path, units or EV_ANGSTROM)
    frames.probe()
    check_metadata(path, _metadata(path), units or EV_ANGSTROM)
    return surveyed(path, frames, lambda index: frames.row(index))


def read_json(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read an ASE database in a JSON file into memory.

    Raises:
        UnknownLayoutError: The JSON file is not an ASE database.
        DataError: The file is not JSON, or a row is not a structure.
    """
    with reading(path, "cannot be read as JSON"):
        document = decoded(path.read_bytes())
    ids = _ids_of(document)
    if ids is None or not all(isinstance(document.get(number), dict) for number in ids):
        raise UnknownLayoutError(f"{path}: a JSON file, but not an ASE database")
    if not ids:
        raise DataError(f"{path}: contains no structure")
    check_metadata(path, document.get("metadata"), units or EV_ANGSTROM)
    frames, counter = [], LabelCounter()
    for index, number in enumerate(ids):
        with reading(path, f"frame {index}: cannot be read, the file is damaged"):
            row = AtomsRow(content_of(path, index, document[number]))
            frames.append(_count_row(path, index, row, units or EV_ANGSTROM, counter))
    return FrameSet(frames, path, tuple(counter.notes(len(frames))), (path,), counter.count.names())


def _ids_of(document: Any) -> list[Any] | None:
    """Return the row numbers of a JSON database; None if the document is not an ASE database."""
    if not isinstance(document, dict) or ("ids" not in document and 1 not in document):
        return None
    ids = document.get("ids", [1])
    ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
    if not isinstance(ids, list) or not all(isinstance(number, int) for number in ids) or len(set(ids)) < len(ids):
        return None
    return ids


def decoded(text: str | bytes) -> Any:
    """Decode JSON written by ASE after checking that the shape of each array matches its number of values.

    Raises:
        ValueError: The text is not JSON or too deeply nested, or the shape of an array does not match its number of
            values.
    """
    return numpyfy(fix_int_keys_in_dicts(parse_json(text, _hook)))


def _hook(content: dict[str, Any]) -> Any:
    if "__ndarray__" in content:
        check_ndarray(content["__ndarray__"])
    return object_hook(content)


def content_of(path: Path, index: int, content: Any) -> dict[str, Any]:
    """Return the values of a row that piwsl uses.

    Raises:
        DataError: The row is not a structure.
    """
    if not isinstance(content, dict) or not {"numbers", "positions"} <= content.keys():
        raise DataError(f"{path}: frame {index}: not a structure of an ASE database")
    return {str(name): value for name, value in content.items() if name not in _UNUSED}


_UNUSED = ("calculator_parameters", "constraints")  # ASE decodes these values without a size limit


def row_frame(path: Path, index: int, row: AtomsRow, units: LabelUnits) -> Frame:
    """Convert a row of an ASE database to a frame.

    Raises:
        DataError: A label has the wrong shape or is unreasonably large.
    """
    return _frame_of(path, index, row, units, named_values(row))[0]


def _frame_of(
    path: Path, index: int, row: AtomsRow, units: LabelUnits, named: dict[str, Any]
) -> tuple[Frame, RawLabels, list[str], ChargeSpin]:
    """Return the frame of a row, the labels, the names that state the units, and the charge and spin."""
    labels = find_labels(named, {name: row.get(name) for name in RESULTS})
    agreeing = check_stated_units(path, index, named, units)
    pbc = periodicity(f"{path}: frame {index}", row.pbc)
    stated = stated_charge(named, row["numbers"], f"{path}: frame {index}")
    frame = labeled_frame(path, index, row["numbers"], row.positions, np.asarray(row.cell), pbc, labels, units, stated)
    return frame, labels, agreeing, stated


def _count_row(path: Path, index: int, row: AtomsRow, units: LabelUnits, counter: LabelCounter) -> Frame:
    """Count the labels and names of a row, and return its frame."""
    named = named_values(row)
    frame, labels, agreeing, stated = _frame_of(path, index, row, units, named)
    results = {name: row.get(name) for name in all_properties if row.get(name) is not None}
    counter.add(labels, {**named, **results}, frame, agreeing, stated)
    return frame


def named_values(row: AtomsRow) -> dict[str, Any]:
    """Return the key-value pairs and data of a row.

    Raises:
        ValueError: The data of the row are not pairs of names and values.
    """
    data = row._data
    if isinstance(data, str):
        data = decoded(data)
    elif isinstance(data, bytes):
        data = bytes_to_object(data)
    pairs = row.key_value_pairs
    if not isinstance(data, Mapping):
        raise ValueError("the data of the row are not pairs of names and values")
    return {str(name): value for name, value in {**data, **pairs}.items()}


def check_metadata(path: Path, metadata: Any, units: LabelUnits) -> None:
    """Compare the units stated in the metadata of a database with the units in use.

    Raises:
        DataError: The metadata state other units.
    """
    if isinstance(metadata, Mapping):
        check_stated_units(path, None, metadata, units)


def surveyed(path: Path, frames: LazyFrames, row_of: Callable[[int], tuple[AtomsRow, LabelUnits]]) -> FrameSet:
    """Return frames that are read (and raise errors) on access, with names and notes from a few rows."""
    counter = LabelCounter()
    count = len(frames)
    for index in sorted({*range(0, count, max(1, count // _LOOKED_AT)), count - 1}):
        with suppress(DataError), reading(path):
            _count_row(path, index, *row_of(index), counter)
    return FrameSet(frames, path, tuple(counter.notes(count)), (path,), counter.count.names())


class SqliteFrames(LazyFrames):
    """Frames from the rows of an ASE database, in the order of their ids.

    Raises:
        UnknownLayoutError, DataError: The file cannot be used; see `read_sqlite`.
    """

    def __init__(self, path: Path, units: LabelUnits) -> None:
        self._ids = _ids(path)
        super().__init__(path, len(self._ids))
        self._units = units
        self._database = PerProcess(lambda: _ReadOnly(path), _ReadOnly.close)

    def row(self, index: int) -> tuple[AtomsRow, LabelUnits]:
        """Return one row and the units of the file."""
        row = next(self._database().select(id=int(self._ids[index])), None)
        if row is None:
            raise KeyError(f"no row {self._ids[index]}")
        return row, self._units

    def read(self, index: int) -> Frame:
        """Read one row as a frame."""
        return row_frame(self.path, index, *self.row(index))

    def __reduce__(self) -> tuple[type["SqliteFrames"], tuple[Path, LabelUnits]]:
        return SqliteFrames, (self.path, self._units)


class _ReadOnly(SQLite3Database):
    """ASE's SQLite database with size limits, and without creating tables in files that it opens."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), use_lock_file=False, serial=True)
        # The connection stays open, because ASE would otherwise reopen the file for every query.
        self.connection: sqlite3.Connection = _connect(path)
        self.change_count = 0

    def decode(self, txt: Any, lazy: bool = False) -> Any:
        """Decode a column. The data column is not decoded until it is used."""
        if lazy:
            return txt
        value = decoded(txt) if isinstance(txt, str) else bytes_to_object(txt)
        return value if isinstance(value, dict) else {}  # ASE would decode text again, without a size limit

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _connect(path: Path | str) -> sqlite3.Connection:
    uri = f"file:{quote(str(Path(path).resolve()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=20, check_same_thread=False)
    # A damaged or malicious file could keep SQLite busy. No row needs more steps than the file has bytes.
    most = max(10**8, 100 * Path(path).stat().st_size)
    steps = 0

    def too_long() -> int:
        nonlocal steps
        steps += _STEPS
        return int(steps > most)

    connection.set_progress_handler(too_long, _STEPS)
    return connection


_STEPS = 10**6  # instructions of SQLite's virtual machine between two checks


def _ids(path: Path) -> np.ndarray:
    largest = path.stat().st_size // _SMALLEST_ROW
    try:
        connection = _connect(path)
        try:
            tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            virtual = "VIRTUAL" in str(tables.get("systems", "")).upper().split("(")[0]
            if "systems" not in tables or virtual:
                names = ", ".join(str(name)[:40] for name in list(tables)[:5])
                raise UnknownLayoutError(
                    f"{path}: an SQLite file with the tables {names or '(none)'}; expected an ASE database"
                )
            ids: list[int] = []
            for (number,) in connection.execute("SELECT id FROM systems ORDER BY id"):
                if not isinstance(number, int) or (ids and number <= ids[-1]) or len(ids) > largest:
                    raise DataError(
                        f"{path}: the file is damaged, because its rows are not in order: copy or download it again"
                    )
                ids.append(number)
            return np.array(ids, dtype=np.int64)
        finally:
            connection.close()
    except PiwslError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read as SQLite, or is damaged ({reason_of(error)})") from None


def _metadata(path: Path) -> Any:
    """Return the metadata of a database; None without metadata. Databases of early versions of ASE have none."""
    with reading(path, "its metadata cannot be read"), closing(_connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "information" not in tables:
            return None
        row = connection.execute("SELECT value FROM information WHERE name = 'metadata'").fetchone()
        return decoded(row[0]) if row and isinstance(row[0], str | bytes) else None


def write_sqlite(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames to an ASE database in an SQLite file, with labels stored as calculator results.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        with SQLite3Database(str(path), use_lock_file=False, serial=True) as database:
            for frame in frames:
                database.write(results_of(frame), data=stored_data(frame))
    except sqlite3.Error as error:
        raise OSError(reason_of(error)) from None
