"""Read frames from any source: a file, a directory, a pattern, or a named data set."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from glob import glob, has_magic
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ase import Atoms

from piwsl.data.datasets import DATASETS, dataset, fetch, is_dataset, recorded_sha256
from piwsl.data.formats.ani import DEFAULT_LEVEL, is_ani, read_ani
from piwsl.data.formats.ase_files import frames_in_memory, read_ase
from piwsl.data.formats.databases import read_json, read_sqlite
from piwsl.data.formats.extxyz import SUFFIXES as XYZ_SUFFIXES
from piwsl.data.formats.hdf5 import opened
from piwsl.data.formats.lmdb import read_lmdb
from piwsl.data.formats.npz import read_npz
from piwsl.data.formats.packed import is_packed, read_packed
from piwsl.data.formats.xsf import read_xsf
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import JoinedFrames, UnknownLayoutError
from piwsl.data.names import FoundNames
from piwsl.errors import ConfigError, DataError, not_a_file, public
from piwsl.units import LabelUnits, parse_units

if TYPE_CHECKING:
    from piwsl.data.datasets.download import Progress


def read_hdf5(path: Path, units: LabelUnits | None = None, level: str | None = None) -> FrameSet:
    """Open an HDF5 file in the packed format or in the layout of ANI-1x; frames are read on access.

    Args:
        path: HDF5 file.
        units: Units of an ANI file, if not hartree and angstrom; a packed file states its units.
        level: Level of theory in an ANI file, such as ``ccsd(t)_cbs``.

    Raises:
        UnknownLayoutError: The HDF5 file has another layout.
        DataError: The file is damaged, or ``units`` or ``level`` do not apply to its layout.
        MissingDependencyError: The package h5py is not installed.
    """
    with opened(path) as file:
        packed, ani = is_packed(file), is_ani(file)
        keys = ", ".join(list(file)[:5]) or "(none)"
    if packed:
        if units is not None:
            raise DataError(f"{path}: packed files are in eV and angstrom: leave out units")
        if level is not None:
            raise DataError(f"{path}: packed files contain only one level of theory: leave out '#{level}'")
        return read_packed(path)
    if ani:
        return read_ani(path, units, level or DEFAULT_LEVEL)
    raise UnknownLayoutError(
        f"{path}: an HDF5 file with the keys {keys}; expected the packed format of piwsl, or a group for each formula "
        "with atomic_numbers and coordinates as in ANI-1x"
    )


Reader: TypeAlias = Callable[[Path, LabelUnits | None], FrameSet]
READERS: dict[str, Reader] = {
    ".npz": read_npz,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".db": read_sqlite,
    ".json": read_json,
    ".aselmdb": read_lmdb,
    ".lmdb": read_lmdb,
    ".xsf": read_xsf,
}
# Further suffixes that are read in a directory. A single file may have any format that ASE reads.
_ASE_SUFFIXES = (*XYZ_SUFFIXES, ".traj")
_NAMED = 3  # files listed in a note
_NOTES = 5  # notes on files of a directory


@public
def read_frames(source: Path | str, units: LabelUnits | str | None = None) -> FrameSet:
    """Read labeled structures.

    Args:
        source: A file; a directory; a pattern such as ``runs/*.xyz``; or the name of a data set such as
            ``rmd17:aspirin``. The data files of a directory and its subdirectories (one level) are read in the order of
            their names. ``ani1x.h5#ccsd(t)_cbs`` selects a level of theory in an ANI file.
        units: Units of the labels, such as ``kcal/mol, angstrom``, if the files do not state them. Files in ASE formats
            are read as eV and angstrom by default.

    Returns:
        Frames in eV and angstrom, float64, with NaN for missing labels. Frames of large formats are read and validated
        on access.

    Raises:
        ConfigError: The units are unknown or not text.
        DataError: The source does not exist, a file cannot be read, a label or a position is not finite, or a label is
            unreasonably large.
        MissingDependencyError: The format needs a library that is not installed.
    """
    if not (units is None or isinstance(units, str | LabelUnits)):
        raise ConfigError(f"units={units!r}: give text, such as units='kcal/mol, angstrom'")
    units = parse_units(units) if isinstance(units, str) else units
    path, text = Path(source), str(source)
    if not text:  # such as an unset variable of a shell; the path would be the current folder
        raise DataError("the name of the file with frames is empty: pass a file, a directory or a named data set")
    if path.is_file():
        return _read_file(path, units)
    if path.is_dir():
        return _read_directory(path, units)
    named, _, level = text.partition("#")
    if level and Path(named).is_file():
        return _read_level(Path(named), units, level)
    if has_magic(text):
        matches = sorted(Path(name) for name in glob(text, recursive=True))
        files = [path for path in matches if path.is_file()]
        if not files:
            raise DataError(f"{text}: no file matches this pattern")
        return _joined(path, [_read_file(name, units) for name in files], ())
    if is_dataset(text):
        if units is not None:
            raise DataError(f"{text}: the units of a named data set are known: leave out units")
        return dataset_frames(text)
    if path.is_symlink() and not path.exists():
        raise DataError(not_a_file(text))
    if path.exists():
        raise DataError(f"{text}: neither a regular file nor a directory: pass a file with frames")
    raise DataError(f"{text}: no such file, directory or data set{_suggestion(path, list(DATASETS))}")


def source_name(source: str) -> str:
    """Return a short name for a file, directory, pattern or named data set, for use in the names of output files."""
    name = source.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"\W+", "-", name).strip("-") or "unnamed"


FrameSource: TypeAlias = FrameSet | Frame | Atoms | Sequence[Frame] | Sequence[Atoms] | str | PathLike[str]


def as_frames(source: FrameSource, units: LabelUnits | str | None = None) -> FrameSet:
    """Return frames from any object that contains or names structures.

    Args:
        source: Frames, ASE structures, or any source that `read_frames` accepts. Labels of ASE structures are values
            with the names ``REF_energy``, ``REF_forces`` and ``REF_stress`` or, if there are none, the results of their
            calculators, which are not called.
        units: Units of the labels, if a file does not state them.

    Raises:
        DataError: The source cannot be read, or units are given for frames in memory.
    """
    if isinstance(source, str | PathLike):
        return read_frames(source if isinstance(source, str) else Path(source), units)
    if units is not None:
        raise DataError("units apply only to files: frames in memory are in eV and angstrom")
    if isinstance(source, FrameSet):
        return source
    return frames_in_memory((source,) if isinstance(source, Frame | Atoms) else source)


def dataset_frames(name: str, folder: Path | None = None, progress: "Progress | None" = None) -> FrameSet:
    """Return the frames of a named data set in eV and angstrom. The data set is downloaded if necessary.

    Args:
        name: Name of the data set, such as ``rmd17:aspirin``.
        folder: Folder of the data sets; by default see `piwsl.data.datasets.fetch.data_folder`.
        progress: Function called during a download with (bytes present, total bytes or None).

    Raises:
        ConfigError: No data set has this name.
        DataError: The data set cannot be downloaded or read.
    """
    record = dataset(name)
    path = fetch(name, folder, progress)
    frames = read_frames(path, parse_units(record.units))
    notes = list(frames.notes)
    digest = recorded_sha256(name, folder)
    if digest is not None:
        notes.append(f"no checksum of {record.file.name} is published; the local copy has sha256:{digest}")
    return FrameSet(frames.frames, Path(record.name), tuple(notes), frames.files, frames.names)


def _read_file(path: Path, units: LabelUnits | None) -> FrameSet:
    return READERS.get(path.suffix.lower(), read_ase)(path, units)


def _read_level(path: Path, units: LabelUnits | None, level: str) -> FrameSet:
    if READERS.get(path.suffix.lower()) is not read_hdf5:
        raise DataError(f"{path}: '#{level}' selects a level of theory, which only ANI HDF5 files have: leave it out")
    return read_hdf5(path, units, level)


def _read_directory(path: Path, units: LabelUnits | None) -> FrameSet:
    files = sorted(name for pattern in ("*", "*/*") for name in path.glob(pattern) if name.is_file())
    parts, skipped = [], []
    for name in files:
        hidden = any(part.startswith(".") for part in name.relative_to(path).parts)
        if hidden or not name.name.lower().endswith((*READERS, *_ASE_SUFFIXES)):
            skipped.append(name)
            continue
        try:
            parts.append(_read_file(name, units))
        except UnknownLayoutError:
            skipped.append(name)
    if not parts:
        endings = ", ".join((*READERS, *_ASE_SUFFIXES))
        raise DataError(f"{path}: contains no data file among {len(files)} files: expected {endings}")
    notes = (f"skipped {_listed([str(name.relative_to(path)) for name in skipped])}",) if skipped else ()
    return _joined(path, parts, notes)


def _joined(source: Path, parts: Sequence[FrameSet], notes: tuple[str, ...]) -> FrameSet:
    """Concatenate the frames of several files; consecutive sets in memory become one list."""
    files = tuple(file for part in parts for file in part.files)
    notes = (f"joined {len(parts)} files: {_listed([file.name for file in files])}", *notes)
    sources_of_note: dict[str, list[str]] = {}
    for part in parts:
        for note in part.notes:
            sources_of_note.setdefault(note, []).append(part.source.name if part.source else "")
    remarks = [f"{_listed(names)}: {note}" for note, names in sources_of_note.items()]
    if len(remarks) > _NOTES:
        remarks[_NOTES:] = [f"{len(remarks) - _NOTES} more remarks on other files"]
    notes = (*notes, *remarks)
    joined: list[FrameSet] = []
    memory: list[Frame] | None = None
    for part in parts:
        if isinstance(part.frames, list):
            if memory is None:
                memory = []
                joined.append(FrameSet(memory))
            memory.extend(part.frames)
        else:
            memory = None
            joined.append(part)
    frames = joined[0].frames if len(joined) == 1 else JoinedFrames(joined)
    return FrameSet(frames, source, notes, files, FoundNames.joined([part.names for part in parts]))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _suggestion(path: Path, datasets: list[str]) -> str:
    """Return a hint with similar names, for use in a message."""
    folder = path.parent
    near = get_close_matches(str(path), datasets, n=3)
    if folder.is_dir():
        near += [str(folder / name) for name in get_close_matches(path.name, [name.name for name in folder.iterdir()])]
    elif not near:
        return f": there is no folder {folder}"
    return f": perhaps {' or '.join(near)}" if near else ""
