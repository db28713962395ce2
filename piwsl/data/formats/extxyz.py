"""Read structures and labels from extended XYZ and plain XYZ files.

ASE's reader stops at the first empty line and drops columns without a name. This reader continues, and reports or
rejects everything that it cannot use. The comment line has the same syntax as in ASE.
"""

import bz2
import gzip
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase.data import atomic_numbers

from piwsl.data.charges import stated_charge
from piwsl.data.formats.comment_line import TRUTH, parse_comment, with_names
from piwsl.data.formats.label_counter import LabelCounter
from piwsl.data.formats.labels import (
    EV_ANGSTROM,
    find_labels,
    labeled_frame,
    periodicity,
)
from piwsl.data.formats.stated_units import check_stated_units
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.names import shown
from piwsl.errors import DataError, quoted
from piwsl.runs.untrusted import Limited, Readable, check_count, reading
from piwsl.structures.isotopes import ISOTOPES
from piwsl.typing import FloatArray, IntArray
from piwsl.units import LabelUnits

COMPRESSED = (".gz", ".bz2", ".xz")
SUFFIXES = tuple(name + end for name in (".xyz", ".extxyz") for end in ("", *COMPRESSED))
_LONGEST_LINE = 2 * 2**20  # bytes; the values of a line take hundreds of times its size while it is read
_MOST_EMPTY = 100_000  # lines
_PLAIN = "species:S:1:pos:R:3"
_SPECIES, _NUMBERS, _POSITIONS = ("species", "symbols"), ("Z", "numbers"), ("pos", "positions")


@dataclass
class RawFrame:
    """Contents of one frame before conversion.

    Attributes:
        line: Number of the first line of the frame.
        info: Values of the comment line.
        columns: Values of the named columns, one row per atom.
        unnamed: Number of columns without a name.
        cell: Lattice vectors in rows, from the VEC lines that ADF writes.
    """

    line: int
    info: dict[str, Any]
    columns: dict[str, Any]
    unnamed: int = 0
    cell: list[list[float]] = field(default_factory=list)


def is_extxyz(path: Path) -> bool:
    """Return whether a file has a suffix of the XYZ formats."""
    return path.name.lower().endswith(SUFFIXES)


def read_extxyz(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames from an extended or plain XYZ file, optionally compressed with gzip, bzip2 or xz.

    Labels are read from ``REF_energy``, ``REF_forces`` and ``REF_stress`` or ``REF_virial``. If a frame has none of
    these keys, the labels are ``energy`` (``free_energy`` if there are forces), ``forces`` and ``stress``.

    Raises:
        DataError: A line does not follow the format (the message contains its number), or a label cannot be used.
    """
    frames: list[Frame] = []
    counter = LabelCounter()
    unnamed = 0
    with reading(path), path.open("rb") as plain:
        lines = _Lines(path, _unpacked(path, plain))
        size = path.stat().st_size
        for raw in lines.frames():
            check_count(len(frames), size)
            unnamed += raw.unnamed > 0
            frames.append(_frame(path, len(frames), raw, units or EV_ANGSTROM, counter))
    if not frames:
        raise DataError(f"{path}: contains no structure")
    notes = list(counter.notes(len(frames)))
    if lines.empty:
        several = f"{len(lines.empty)} empty lines between frames" if len(lines.empty) > 1 else "an empty line"
        notes.append(f"skipped {several}, first at line {lines.empty[0]}")
    if lines.is_open:
        notes.append("the last line has no line break: its last value may be truncated")
    if unnamed:
        notes.append(
            f"{unnamed} of {len(frames)} frames have columns without a name (no Properties), which were not read"
        )
    return FrameSet(frames, path, tuple(notes), (path,), counter.count.names())


def last_frame(path: Path) -> str:
    """Return the text of the last frame of an XYZ file.

    Raises:
        DataError: A line does not follow the format, see `read_extxyz`.
    """
    text: list[str] = []
    with reading(path), path.open("rb") as plain:
        lines = _Lines(path, _unpacked(path, plain))
        for _ in lines.frames():
            text = lines.text
    if not text:
        raise DataError(f"{path}: contains no structure")
    return "\n".join([*text, ""])


def _unpacked(path: Path, plain: IO[bytes]) -> Readable:
    openers = dict(zip(COMPRESSED, (gzip.open, bz2.open, lzma.open), strict=True))
    opener: Any = openers.get(path.suffix.lower())
    return plain if opener is None else Limited(opener(plain), path.stat().st_size)


class _Lines:
    """The lines of a file, frame by frame.

    Attributes:
        empty: Numbers of empty lines between frames.
        text: Lines of the last frame.
        is_open: Whether the last line has no end.
    """

    def __init__(self, path: Path, stream: Readable) -> None:
        self.path = path
        self.empty: list[int] = []
        self.text: list[str] = []
        self.is_open = False
        self._number = 0
        self._read = stream.readline
        self._waiting: list[str] = []

    def frames(self) -> Iterator[RawFrame]:
        """Yield the frames.

        Raises:
            DataError: A line is not what the format says, or the file ends within a frame.
        """
        index = 0
        while (line := self._next()) is not None:
            if line.strip():
                yield self._frame(index, line)
                index += 1
                continue
            self.empty.append(self._number)
            if len(self.empty) > _MOST_EMPTY:
                raise DataError(f"{self.path}: more than {_MOST_EMPTY} empty lines: not an XYZ file")

    def _next(self) -> str | None:
        """Return the next line without its end; None at the end of the file."""
        self._number += 1
        if self._waiting:
            return self._waiting.pop(0)
        data = self._read(_LONGEST_LINE)
        if not data:
            return None
        if len(data) == _LONGEST_LINE:
            raise self._error(f"is longer than {_LONGEST_LINE // 2**20} MB: remove values from this line")
        try:
            text = data.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise self._error("is not text (UTF-8)") from None
        self.is_open = not text.endswith(("\n", "\r"))
        first: str
        first, *self._waiting = text.rstrip("\r\n").split("\r")  # carriage returns alone end the lines of old files
        return first

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.path}: line {self._number} {problem}")

    def _frame(self, index: int, line: str) -> RawFrame:
        start = self._number
        try:
            atoms = int(line)
        except ValueError:
            raise self._error(f"is {quoted(line.strip())}; expected the number of atoms of frame {index}") from None
        if atoms < 0:
            raise self._error(f"is {atoms}; expected the number of atoms of frame {index}")
        comment = self._next()
        if comment is None:
            raise self._cut(index, 0, atoms)
        try:
            comment = with_names(comment)
        except ValueError as error:
            raise self._error(str(error)) from None
        self.text = [line, comment]
        info = self._info(comment.strip())
        columns = self._columns(info.pop("Properties", None) if isinstance(info.get("Properties"), str) else None)
        width = sum(count for _, _, count in columns)
        words: list[list[str]] = []
        longest = width
        for number in range(atoms):
            row = self._next()
            if row is None:
                raise self._cut(index, number, atoms)
            values = row.split()
            if len(values) < width or (len(values) > width and "Properties" in comment):
                raise self._error(
                    f"has {len(values)} columns, and frame {index} has {width} for atom {number + 1} of {atoms}: "
                    "correct or remove the frame"
                )
            longest = max(longest, len(values))
            words.append(values[:width])
            self.text.append(row)
        raw = RawFrame(start, info, self._values(columns, words, start + 2), longest - width)
        self._vectors(raw)
        return raw

    def _cut(self, index: int, found: int, atoms: int) -> DataError:
        return DataError(
            f"{self.path}: ends within frame {index} after {found} of {atoms} atoms: remove the incomplete frame"
        )

    def _info(self, comment: str) -> dict[str, Any]:
        try:
            return parse_comment(comment)
        except ValueError as error:
            raise self._error(f"is not a comment line of extended XYZ ({error})") from None

    def _columns(self, properties: str | None) -> list[tuple[str, str, int]]:
        """Return name, type and number of columns."""
        fields = (properties or _PLAIN).split(":")
        if len(fields) % 3:
            raise self._error(f"has Properties={quoted(properties)}; expected NAME:TYPE:COUNT, one or more times")
        columns = []
        for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            if kind not in ("R", "I", "S", "L") or not re.fullmatch(r"[1-9]\d{0,3}", count):
                raise self._error(f"names the column {quoted(f'{name}:{kind}:{count}')}; expected NAME:TYPE:COUNT")
            columns.append((name, kind, int(count)))
        names = [name for name, _, _ in columns]
        if len(set(names)) < len(names):
            raise self._error(f"names a column twice: {quoted(properties)}")
        return columns

    def _values(self, columns: list[tuple[str, str, int]], words: list[list[str]], line: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        place = 0
        for name, kind, count in columns:
            cut = [row[place : place + count] for row in words]
            place += count
            if kind == "S":
                values[name] = [row[0] if count == 1 else row for row in cut]
                continue
            try:
                if kind == "L":
                    numbers: Any = np.array([[TRUTH[word] for word in row] for row in cut], dtype=bool)
                else:
                    numbers = np.array([[float(word) for word in row] for row in cut])
            except (ValueError, KeyError):
                bad = next(index for index, row in enumerate(cut) if not all(_is_value(word, kind) for word in row))
                raise DataError(
                    f"{self.path}: line {line + bad} has {quoted(' '.join(cut[bad]))} in the column {shown(name)}; "
                    f"expected {'T or F' if kind == 'L' else 'numbers'}"
                ) from None
            numbers = numbers.reshape(len(words), count)
            values[name] = numbers[:, 0] if count == 1 else numbers
        return values

    def _vectors(self, raw: RawFrame) -> None:
        """Read lines VEC1 to VEC3 with lattice vectors."""
        while len(raw.cell) < 3 and (line := self._next()) is not None:
            words = line.split()
            if not words or words[0] != f"VEC{len(raw.cell) + 1}":
                self._waiting.insert(0, line)
                self._number -= 1
                return
            try:
                first, second, third = (float(word) for word in words[1:4])
            except ValueError:
                raise self._error(f"is {quoted(line)}; expected a lattice vector") from None
            raw.cell.append([first, second, third])
            self.text.append(line)


def _is_value(word: str, kind: str) -> bool:
    if kind == "L":
        return word in TRUTH
    try:
        float(word)
    except ValueError:
        return False
    return True


def _frame(path: Path, index: int, raw: RawFrame, units: LabelUnits, counter: LabelCounter) -> Frame:
    where = f"{path}: frame {index} (line {raw.line})"
    columns, info = dict(raw.columns), dict(raw.info)
    symbols = next((columns.pop(name) for name in _SPECIES if name in columns), None)
    numbers = next((columns.pop(name) for name in _NUMBERS if name in columns), None)
    positions = next((columns.pop(name) for name in _POSITIONS if name in columns), None)
    if positions is None or (symbols is None and numbers is None):
        raise DataError(f"{where}: Properties has no column {'pos' if positions is None else 'species'}")
    species = _atomic_numbers(where, symbols or []) if numbers is None else numbers
    if symbols is not None and not np.array_equal(species, _atomic_numbers(where, symbols)):
        raise DataError(f"{where}: its columns of symbols and atomic numbers contradict each other: keep one of them")
    cell, pbc = _cell(where, info, raw.cell)
    found = {**columns, **info}
    labels = find_labels(found, found)
    agreeing = check_stated_units(path, index, found, units)
    stated = stated_charge(info, species, where)
    frame = labeled_frame(path, index, species, positions, cell, pbc, labels, units, stated)
    counter.add(labels, found, frame, agreeing, stated)
    return frame


def _atomic_numbers(where: str, symbols: list[str]) -> IntArray:
    known: dict[str, int] = {}
    for symbol in set(map(str, symbols)):
        # The mass of an isotope does not change energies and forces.
        number = 1 if symbol in ISOTOPES else atomic_numbers.get(symbol.capitalize(), 0)
        if not number and symbol.isascii() and symbol.isdigit() and len(symbol) < 4:
            number = int(symbol)
        if not number:
            raise DataError(f"{where}: {quoted(symbol)} is not the symbol of an element")
        known[symbol] = number
    return np.array([known[str(symbol)] for symbol in symbols], dtype=np.int64)


def _cell(where: str, info: dict[str, Any], vectors: list[list[float]]) -> tuple[FloatArray, tuple[bool, bool, bool]]:
    """Take cell and periodic directions out of the values of a comment line."""
    cell = np.zeros((3, 3))
    lattice = info.pop("Lattice", None)
    if lattice is not None:
        numbers = np.asarray(lattice)
        if numbers.size != 9 or numbers.dtype.kind not in "if":
            raise DataError(f"{where}: Lattice is {quoted(lattice)}; expected nine numbers")
        cell = numbers.reshape(3, 3).astype(np.float64)
    elif vectors:
        cell[: len(vectors)] = vectors
    if "pbc" in info:
        return cell, periodicity(where, info.pop("pbc"))
    periodic = [lattice is not None or index < len(vectors) for index in range(3)]
    return cell, (periodic[0], periodic[1], periodic[2])
