"""HDF5 files in the layout of the ANI-1x release (Smith et al. 2020, Sci. Data 7, 134).

Each formula has a group with ``atomic_numbers`` (n) and ``coordinates`` (m, n, 3) in angstrom. For each level of
theory, the group contains ``LEVEL.energy`` (m) in hartree and optionally ``LEVEL.forces`` (m, n, 3) in
hartree/angstrom; missing values are NaN.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piwsl.data.formats.hdf5 import check_stored, open_hdf5, opened, plain_array
from piwsl.data.formats.labels import RawLabels, atomic_numbers_of, labeled_frame
from piwsl.data.formats.stated_units import differs, stated_factors, text_of
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import LazyFrames, PerProcess
from piwsl.data.names import FoundNames, shown
from piwsl.errors import DataError, quoted
from piwsl.runs.untrusted import check_content
from piwsl.typing import FloatArray, IntArray
from piwsl.units import HARTREE, LabelUnits

if TYPE_CHECKING:
    import h5py

DEFAULT_LEVEL = "wb97x_dz"
SPECIES, POSITIONS = "atomic_numbers", "coordinates"
_UNITS = LabelUnits(HARTREE, 1.0)
_BLOCK = 1000  # conformers read at once
_LOOKED_AT = 10


@dataclass(frozen=True, eq=False)
class _Group:
    """Species of one formula, and the rows of its labeled conformers."""

    name: str
    species: IntArray
    rows: IntArray


def is_ani(file: "h5py.File") -> bool:
    """Return whether the first items of an HDF5 file include a group with this layout."""
    return any(_is_formula(content) for content in islice(file.values(), _LOOKED_AT))


def _is_formula(content: Any) -> bool:
    return hasattr(content, "keys") and SPECIES in content and POSITIONS in content


def read_ani(path: Path, units: LabelUnits | None, level: str = DEFAULT_LEVEL) -> FrameSet:
    """Open the conformers that have an energy at one level of theory; frames are read on access.

    Raises:
        DataError: The file is damaged, or no conformer has a label at this level.
    """
    frames = AniFrames(path, units or _UNITS, level)
    frames.probe()
    left_out = frames.conformers - len(frames)
    notes = (
        (f"{left_out} of {frames.conformers} conformers have no {level} label and were skipped",) if left_out else ()
    )
    return FrameSet(frames, path, notes, (path,), frames.names)


class AniFrames(LazyFrames):
    """The labeled conformers of an ANI file, formula by formula.

    Attributes:
        conformers: Total number of conformers in the file.
        names: Names in the groups of the file.

    Raises:
        DataError: The file cannot be used; see `read_ani`.
    """

    def __init__(self, path: Path, units: LabelUnits, level: str) -> None:
        with opened(path) as file:
            self.conformers, self._groups, self.names = _groups(path, file, level, units)
        self._ends = np.cumsum([len(group.rows) for group in self._groups])
        super().__init__(path, int(self._ends[-1]))
        self._units = units
        self._level = level
        self._file: PerProcess[h5py.File] = PerProcess(lambda: open_hdf5(path), lambda file: file.close())

    def read(self, index: int) -> Frame:
        """Read one conformer."""
        place = int(np.searchsorted(self._ends, index, side="right"))
        group = self._groups[place]
        row = int(group.rows[index - self._ends[place]])
        return next(self._conformers(group, np.array([row]), index))

    def read_all(self) -> Iterator[Frame]:
        """Read all conformers block by block."""
        index = 0
        for group in self._groups:
            for start in range(0, len(group.rows), _BLOCK):
                rows = group.rows[start : start + _BLOCK]
                yield from self._conformers(group, rows, index)
                index += len(rows)

    def __reduce__(self) -> tuple[type["AniFrames"], tuple[Path, LabelUnits, str]]:
        return AniFrames, (self.path, self._units, self._level)

    def _conformers(self, group: _Group, rows: IntArray, index: int) -> Iterator[Frame]:
        """Yield the frames for ascending rows of a group; ``index`` belongs to the first frame."""
        arrays = self._file()[group.name]
        window = slice(int(rows[0]), int(rows[-1]) + 1)
        inside = rows - rows[0]
        positions = arrays[POSITIONS][window][inside]
        energies = arrays[f"{self._level}.energy"][window][inside]
        forces: Any = arrays.get(f"{self._level}.forces")
        forces = None if forces is None else forces[window][inside]
        for i in range(len(rows)):
            labels = RawLabels(_given(energies[i]), None if forces is None else _given(forces[i]))
            free = (np.zeros((3, 3)), (False, False, False))
            yield labeled_frame(self.path, index + i, group.species, positions[i], *free, labels, self._units)


def _given(values: FloatArray) -> FloatArray | None:
    return None if np.isnan(values).all() else values


def _groups(path: Path, file: "h5py.File", level: str, units: LabelUnits) -> tuple[int, list[_Group], FoundNames]:
    """Return the total number of conformers, the groups with labeled conformers, and the names in the file."""
    conformers, groups, names = 0, [], Counter[str]()
    energy, forces = f"{level}.energy", f"{level}.forces"
    levels: set[str] = set()
    total, size = 0, path.stat().st_size  # bytes
    for name, content in file.items():
        if not _is_formula(content):
            continue
        levels |= {key.rsplit(".", 1)[0] for key in content if key.endswith(".energy")}
        numbers = plain_array(content, SPECIES)
        check_stored(numbers)
        species = atomic_numbers_of(f"{path}: {shown(name)}", numbers[()])
        if not len(species):
            raise DataError(f"{path}: {shown(name)} contains no atoms: remove the group")
        positions = plain_array(content, POSITIONS)
        count = positions.shape[0]
        expected: dict[str, tuple[int, ...]] = {POSITIONS: (count, len(species), 3)}
        expected |= {energy: (count,), forces: (count, len(species), 3)}
        for key, shape in expected.items():
            if key not in content:
                continue
            array = plain_array(content, key, "f")
            if array.shape != shape:
                raise DataError(f"{path}: {shown(name)}/{key} has shape {array.shape}, expected {shape}")
            check_stored(array)
            total += array.size * array.dtype.itemsize
            _check_unit(path, f"{shown(name)}/{key}", array, units)
        check_content("the arrays", total, size)
        conformers += count
        names.update({shown(key): count for key in content if key not in (SPECIES, POSITIONS)})
        if energy in content:
            rows = np.flatnonzero(np.isfinite(content[energy][()]))
            groups.append(_Group(name, species, rows))
    groups = [group for group in groups if len(group.rows)]
    if not groups:
        known = ", ".join(shown(name) for name in sorted(levels)[:20])
        raise DataError(f"{path}: no conformer has a {level} energy; levels in the file: {known}")
    read = {name: number for name, number in names.items() if name in (energy, forces)}
    return conformers, groups, FoundNames(conformers, read, {name: names[name] for name in names if name not in read})


def _check_unit(path: Path, where: str, array: Any, units: LabelUnits) -> None:
    """Raise an error if an array states a unit other than the unit it is read with."""
    what = "length" if where.endswith(POSITIONS) else "energy" if where.endswith(".energy") else "force"
    for key in ("unit", "units"):
        stated = text_of(array.attrs[key]) if key in array.attrs else None
        for name, factor in stated_factors(what, stated).items() if stated is not None else ():
            if differs(name, factor, units):
                raise DataError(
                    f"{path}: {where} is in {quoted(stated)}: give the units of the file, units='ENERGY, LENGTH'"
                )
