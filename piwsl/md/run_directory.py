"""The directory of a run: what may be written where, and the summary that explains it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

from piwsl.errors import RunDirectoryError
from piwsl.export.loading import EXPORTED_NAMES
from piwsl.md.engines.base import Snapshot
from piwsl.runs.files import atomic_path, writing
from piwsl.runs.summary import SUMMARY_FILE

CONFIG = "config.yaml"
TOPOLOGY = "topology.pdb"
THERMO = "thermo.csv"
LOG = "md.log"
START = "start.extxyz"
STOPPED = "stopped.extxyz"
ANALYSIS = "analysis"
_PATTERNS = ("state-*.npz", "violation-*.extxyz", "trajectory.*", ".lock-*")
_FILES = (CONFIG, TOPOLOGY, THERMO, SUMMARY_FILE, LOG, START, STOPPED, *EXPORTED_NAMES)

LOGGER = logging.getLogger("piwsl.md")


def check_free(directory: Path, force: bool) -> None:
    """Refuse a directory that holds another run.

    Raises:
        RunDirectoryError: it is not empty and ``force`` is not given, or it is no directory.
    """
    if directory.exists() and not directory.is_dir():
        raise RunDirectoryError(f"{directory}: is a file: choose another --output")
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    if not any((directory / name).exists() for name in (TOPOLOGY, THERMO, LOG)):
        raise RunDirectoryError(f"{directory}: is not empty and holds no run of piwsl md: choose another --output")
    if not force:
        raise RunDirectoryError(
            f"{directory}: holds another run: choose another --output, continue it with --restart, "
            "or replace it with --force"
        )


def lock_files(replicas: Sequence[int]) -> list[str]:
    """Names of the locks of some replicas of a run."""
    return [f".lock-{number:03d}" for number in replicas]


def make(directory: Path) -> None:
    """Make the directory, where it is not there.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / LOG).touch()
    except OSError as error:
        raise RunDirectoryError(f"{directory}: cannot be written ({error.strerror}): choose another --output") from None


def clear(directory: Path) -> None:
    """Remove the files of an earlier run, of its replicas and its analysis, and nothing else."""
    for replica in directory.glob("replica-[0-9]*"):
        if (replica / TOPOLOGY).exists():
            clear(replica)
            if not any(replica.iterdir()):
                replica.rmdir()
    found = [path for pattern in _PATTERNS for path in directory.glob(pattern)]
    for path in [directory / name for name in _FILES] + found:
        path.unlink(missing_ok=True)
    if (directory / ANALYSIS / "analysis.json").exists():  # it belongs to the run that goes
        rmtree(directory / ANALYSIS)


def normalized(structure: Atoms) -> Atoms:
    """The structure as `write_structure` keeps it: coordinates of 8 decimals, nothing but what the run needs."""
    return Atoms(
        structure.numbers,
        np.round(structure.positions, 8) + 0.0,  # no negative zeros
        masses=np.round(structure.get_masses(), 8),
        cell=np.round(structure.cell.array, 8) + 0.0,
        pbc=structure.pbc,
    )


def write_structure(path: Path, structure: Atoms, snapshot: Snapshot | None = None, **info: Any) -> None:
    """Write a structure, or its atoms where a snapshot has them, as extended XYZ.

    Raises:
        RunDirectoryError: the disk refuses.
    """
    atoms = structure.copy()
    atoms.info.update(info)
    if snapshot is not None:
        atoms.positions = snapshot.positions
        if snapshot.cell is not None:
            atoms.set_cell(snapshot.cell)
    with writing(path), atomic_path(path) as temporary:
        write(temporary, atoms, format="extxyz")


def read_start(directory: Path) -> Atoms:
    """The start structure of a run, with its masses.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    try:
        atoms = read(directory / START, format="extxyz")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RunDirectoryError(f"{directory / START}: not readable ({error}): the run cannot be continued") from None
    assert isinstance(atoms, Atoms)
    return normalized(atoms)
