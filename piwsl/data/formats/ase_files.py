"""Read structures and labels from files in formats of ASE."""

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import iread
from ase.io.extxyz import write_xyz
from ase.io.formats import open_with_compression

from piwsl.data.charges import stated_charge
from piwsl.data.formats.extxyz import is_extxyz, read_extxyz
from piwsl.data.formats.in_child import content_of, structures_of
from piwsl.data.formats.label_counter import LabelCounter
from piwsl.data.formats.labels import (
    ENERGY_KEY,
    ENERGY_SPREAD_KEY,
    EV_ANGSTROM,
    FORCES_KEY,
    STRESS_KEY,
    find_labels,
    labeled_frame,
    periodicity,
    spreads_of,
    texts_of,
)
from piwsl.data.formats.stated_units import check_stated_units
from piwsl.data.formats.traj import check_traj
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError, quoted
from piwsl.runs.reader_process import CPU_SECONDS, call_apart
from piwsl.runs.untrusted import reading
from piwsl.units import LabelUnits

_SECONDS, _BYTES_PER_SECOND = CPU_SECONDS, 1e5  # time limit of the child process that reads an unknown format
_MEMORY, _MEMORY_PER_BYTE = 2 * 2**30, 200
_IN_MEMORY = Path("structures in memory")  # instead of a file, in messages
_LAMMPS_UNITS = {"metal": "eV, angstrom", "real": "kcal/mol, angstrom", "electron": "hartree, bohr"}
_HEAD = 4096  # bytes; the names of the columns of a LAMMPS dump are within them


def read_ase(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read frames from a file in a format of ASE.

    Labels are read from ``REF_energy``, ``REF_forces`` and ``REF_stress`` or ``REF_virial``. If a frame has none of
    these keys, the calculator results in the file are used as labels, and a note is added.

    Raises:
        DataError: The file cannot be read or contains no frame.
    """
    if is_extxyz(path):
        return read_extxyz(path, units)
    is_dump = check_dump(path, units)
    frames: list[Frame] = []
    counter = LabelCounter()
    with reading(path):
        for index, raw in zip(count(), _structures(path), strict=False):
            if is_dump:
                raw["results"].pop("energy", None)  # a dump has none, and ASE sets it to 0
            frames.append(_frame(path, index, raw, units or EV_ANGSTROM, counter))
    if not frames:
        raise DataError(f"{path}: contains no structure")
    return FrameSet(frames, path, tuple(counter.notes(len(frames))), (path,), counter.count.names())


def check_dump(path: Path, units: LabelUnits | None = None) -> bool:
    """Return whether a file is a dump of LAMMPS, after checking what ASE ignores in dumps: elements and units.

    Args:
        path: File in any format of ASE.
        units: Units with which the file is read.

    Raises:
        DataError: The file is a dump without elements, whose type numbers ASE would read as atomic numbers; or a dump
            that states other units; or it cannot be read.
    """
    with reading(path), open_with_compression(str(path), "rb") as stream:
        lines = stream.read(_HEAD).decode(errors="replace").splitlines()
    columns = next((line.split()[2:] for line in lines if line.startswith("ITEM: ATOMS")), None)
    if columns is None or not lines[0].startswith("ITEM: "):
        return False
    if "element" not in columns:
        raise DataError(
            f"{path}: a LAMMPS dump with type numbers instead of elements: write it with the column element, or "
            "convert it to extended XYZ"
        )
    if "ITEM: UNITS" in lines[:-1]:
        stated = lines[lines.index("ITEM: UNITS") + 1].strip()
        if stated not in _LAMMPS_UNITS:
            raise DataError(f"{path}: a LAMMPS dump in the units {quoted(stated)}: convert it to extended XYZ")
        check_stated_units(path, None, {"units": _LAMMPS_UNITS[stated]}, units or EV_ANGSTROM)
    return True


def _frame(path: Path, index: int, raw: dict[str, Any], units: LabelUnits, counter: LabelCounter) -> Frame:
    named, results = raw["named"], raw["results"]
    labels = find_labels(named, results)
    found = {**named, **{name: value for name, value in results.items() if value is not None}}
    agreeing = check_stated_units(path, index, named, units)
    pbc = periodicity(f"{path}: frame {index}", raw["pbc"])
    stated = stated_charge(raw["info"], raw["numbers"], f"{path}: frame {index}")
    frame = labeled_frame(path, index, raw["numbers"], raw["positions"], raw["cell"], pbc, labels, units, stated)
    counter.add(labels, found, frame, agreeing, stated)
    return frame


def frames_in_memory(structures: Iterable[Frame | Atoms]) -> FrameSet:
    """Return frames from structures in memory, which are read as the structures of a file are.

    The labels are ``REF_...`` values in ``info`` and ``arrays``, or the results that the calculator of a structure has
    stored for it. No calculator is called.

    Raises:
        DataError: A structure cannot be used.
    """
    frames: list[Frame] = []
    counter = LabelCounter()
    for index, given in enumerate(structures):
        if isinstance(given, Atoms):
            given = _frame(_IN_MEMORY, index, _stored(given), EV_ANGSTROM, counter)
        frames.append(given)
    return FrameSet(frames, notes=tuple(counter.notes(len(frames))), names=counter.count.names())


def _stored(atoms: Atoms) -> dict[str, Any]:
    """Return the values of a structure, without the results of its calculator for other positions."""
    raw = content_of(atoms)
    is_outdated = getattr(atoms.calc, "check_state", None)
    if is_outdated is not None and is_outdated(atoms):
        raw["results"] = {}
    return raw


def _structures(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix.lower() == ".traj":
        check_traj(path)
        yield from (content_of(atoms) for atoms in iread(path, index=":", format="traj", do_not_split_by_at_sign=True))
        return
    # ASE's readers trust the sizes stated in a file, and some never return. A child process limits the damage.
    size = path.stat().st_size
    seconds, memory = _SECONDS + size / _BYTES_PER_SECOND, _MEMORY + _MEMORY_PER_BYTE * size
    yield from call_apart(structures_of, path, memory=memory, cpu_seconds=seconds)


def write_extxyz(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames as extended XYZ, with the labels ``REF_energy``, ``REF_forces`` and ``REF_stress``, and spreads."""
    with path.open("w", encoding="utf-8") as stream:
        for frame in frames:
            atoms = frame.atoms()
            if frame.has_energy:
                atoms.info[ENERGY_KEY] = frame.energy
            if frame.has_forces:
                atoms.arrays[FORCES_KEY] = frame.forces
            if frame.has_stress:
                atoms.info[STRESS_KEY] = frame.stress.reshape(-1)
            atoms.info.update(texts_of(frame))
            for key, spread in spreads_of(frame).items():
                (atoms.info if key == ENERGY_SPREAD_KEY else atoms.arrays)[key] = spread
            write_xyz(stream, [atoms], write_results=False)
