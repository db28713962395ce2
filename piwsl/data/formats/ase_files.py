"""Read structures and labels from files in formats of ASE."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import iread
from ase.io.extxyz import write_xyz

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
    kind_of,
    labeled_frame,
    periodicity,
    spreads_of,
)
from piwsl.data.formats.stated_units import check_stated_units
from piwsl.data.formats.traj import check_traj
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError
from piwsl.runs.reader_process import CPU_SECONDS, call_apart
from piwsl.runs.untrusted import reading
from piwsl.units import LabelUnits

_SECONDS, _BYTES_PER_SECOND = CPU_SECONDS, 1e5  # time limit of the child process that reads an unknown format
_MEMORY, _MEMORY_PER_BYTE = 2 * 2**30, 200
_IN_MEMORY = Path("structures in memory")  # instead of a file, in messages
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
    check_elements(path)
    frames: list[Frame] = []
    counter = LabelCounter()
    with reading(path):
        for index, raw in zip(count(), _structures(path), strict=False):
            frames.append(_frame(path, index, raw, units or EV_ANGSTROM, counter))
    if not frames:
        raise DataError(f"{path}: contains no structure")
    return FrameSet(frames, path, tuple(counter.notes(len(frames))), (path,), counter.count.names())


def frames_in_memory(structures: Sequence[Frame | Atoms]) -> FrameSet:
    """Return frames from frames and ASE structures, whose labels are read as in a file of ASE.

    Calculators are not called. Their results are labels unless the structure was changed after the calculation.

    Raises:
        DataError: A structure or a label cannot be used.
    """
    frames: list[Frame] = []
    counter = LabelCounter()
    for index, structure in enumerate(structures):
        if isinstance(structure, Frame):
            frames.append(structure)
            continue
        raw = content_of(structure)
        if not _is_calculated(structure):
            raw["results"] = {}
        frames.append(_frame(_IN_MEMORY, index, raw, EV_ANGSTROM, counter))
    return FrameSet(frames, None, tuple(counter.notes(counter.count.frames)), (), counter.count.names())


def _is_calculated(atoms: Atoms) -> bool:
    """Return whether the results of the calculator, if there is one, belong to the structure as it is."""
    check = getattr(atoms.calc, "check_state", None)
    return check is not None and not check(atoms)


def check_elements(path: Path) -> None:
    """Raise an error for a dump of LAMMPS without elements, whose type numbers ASE would read as atomic numbers.

    Raises:
        DataError: The file is such a dump, or cannot be read.
    """
    with reading(path), path.open("rb") as stream:
        lines = stream.read(_HEAD).decode(errors="replace").splitlines()
    columns = next((line.split()[2:] for line in lines if line.startswith("ITEM: ATOMS")), None)
    if columns is not None and lines[0].startswith("ITEM: TIMESTEP") and "element" not in columns:
        raise DataError(
            f"{path}: a LAMMPS dump with type numbers instead of elements: write it with the column element, or "
            "convert it to extended XYZ"
        )


def _frame(path: Path, index: int, raw: dict[str, Any], units: LabelUnits, counter: LabelCounter) -> Frame:
    named, results = raw["named"], raw["results"]
    labels = find_labels(named, results)
    found = {**named, **{name: value for name, value in results.items() if value is not None}}
    agreeing = check_stated_units(path, index, named, units)
    pbc = periodicity(f"{path}: frame {index}", raw["pbc"])
    stated = stated_charge(raw["info"], raw["numbers"], f"{path}: frame {index}")
    frame = labeled_frame(path, index, raw["numbers"], raw["positions"], raw["cell"], pbc, labels, units, stated)
    kind = kind_of(named)
    counter.add(labels, found, frame, [*agreeing, *(["config_type"] if kind else [])], stated)
    return replace(frame, config_type=kind)


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
            for key, spread in spreads_of(frame).items():
                (atoms.info if key == ENERGY_SPREAD_KEY else atoms.arrays)[key] = spread
            write_xyz(stream, [atoms], write_results=False)
