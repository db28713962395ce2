"""Read structures in the extended XSF format of aenet (Artrith, Urban 2016), one structure per file.

The comment ``# total energy = -1234.5 eV`` contains the energy. Positions are in angstrom and forces in eV/angstrom.
XSF files without this comment have the format of XCrySDen, with forces in hartree/angstrom, and are read by ASE.
"""

import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from piwsl.data.formats.ase_files import read_ase
from piwsl.data.formats.labels import EV_ANGSTROM, RawLabels, labeled_frame
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.names import FoundNames
from piwsl.errors import DataError, quoted
from piwsl.runs.untrusted import reading
from piwsl.typing import FloatArray, IntArray
from piwsl.units import LabelUnits

_ENERGY = re.compile(r"^\s*#\s*total energy\s*=\s*(\S+)(?:\s+(\S+))?", re.IGNORECASE | re.MULTILINE)
_PERIODIC = {"POLYMER": (True, False, False), "SLAB": (True, True, False)}
_KEYWORDS = {"ANIMSTEPS", "ATOMS", "CRYSTAL", "PRIMCOORD", "PRIMVEC", *_PERIODIC}


def read_xsf(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read the structure of an XSF file.

    Raises:
        DataError: The file is truncated or not an XSF file.
    """
    with reading(path, "cannot be read as text"):
        text = path.read_text(encoding="utf-8")
    comment = _ENERGY.search(text)
    if comment is None:
        return read_ase(path, units)
    frame = _frame(path, text, comment, units or EV_ANGSTROM)
    names = {"total energy": 1, **({"forces": 1} if frame.has_forces else {})}
    return FrameSet([frame], path, files=(path,), names=FoundNames(1, names))


def _frame(path: Path, text: str, comment: re.Match[str], units: LabelUnits) -> Frame:
    energy, unit = comment.groups()
    if unit not in (None, "eV"):
        raise DataError(f"{path}: its total energy is in {quoted(unit)}; expected eV, as aenet writes it")
    with reading(path, "not an XSF file of aenet, or truncated"):
        cell, pbc, rows = _sections(text)
        species, numbers = _atoms(rows)
        labels = RawLabels(float(energy), numbers[:, 3:] if numbers.shape[1] == 6 else None)
    return labeled_frame(path, 0, species, numbers[:, :3], cell, pbc, labels, units)


def _sections(text: str) -> tuple[FloatArray, tuple[bool, bool, bool], list[str]]:
    """Return the lattice vectors, the periodic directions, and the rows of the atoms."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    start = {words[0]: number for number, line in enumerate(lines) if (words := line.split())[0] in _KEYWORDS}
    if "ANIMSTEPS" in start:
        raise ValueError("the file contains several structures")
    if "PRIMCOORD" not in start:
        return np.zeros((3, 3)), (False, False, False), lines[start["ATOMS"] + 1 :]
    vectors, atoms = start["PRIMVEC"] + 1, start["PRIMCOORD"] + 2
    cell = np.array([line.split() for line in lines[vectors : vectors + 3]], dtype=float)
    count = int(lines[atoms - 1].split()[0])
    rows = lines[atoms : atoms + count]
    if cell.shape != (3, 3) or len(rows) != count:
        raise ValueError(f"{len(rows)} of {count} atoms, {len(cell)} of 3 lattice vectors")
    if len(lines) > atoms + count and len(lines[atoms + count].split()) == len(rows[-1].split()):
        raise ValueError(f"more atoms than the {count} stated in PRIMCOORD")
    periodic = next((known for name, known in _PERIODIC.items() if name in start), (True, True, True))
    return cell, periodic, rows


def _atoms(rows: list[str]) -> tuple[IntArray, FloatArray]:
    """Return atomic numbers (n,), and positions (n, 3) or positions with forces (n, 6)."""
    words = " ".join(rows).split()
    columns = len(rows[0].split())
    if columns not in (4, 7) or any(len(row.split()) != columns for row in rows):
        raise ValueError("a row has neither 4 nor 7 columns")
    symbols = words[::columns]
    known = {symbol: int(symbol) if symbol.isdigit() else atomic_numbers[symbol] for symbol in set(symbols)}
    del words[::columns]
    numbers = np.array(words, dtype=float).reshape(len(rows), columns - 1)
    return np.array([known[symbol] for symbol in symbols]), numbers
