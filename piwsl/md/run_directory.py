"""The directory of a molecular dynamics run: names of its files, and reading and writing of structures."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from ase import Atoms
from ase.io import write

from piwsl.data.structure_file import load_structure
from piwsl.errors import DataError, RunDirectoryError
from piwsl.export.loading import EXPORTED_NAMES
from piwsl.md.engines.base import Snapshot
from piwsl.md.structure import normalized
from piwsl.runs.directory import DirectoryKind, RunDirectory
from piwsl.runs.files import atomic_path, writing
from piwsl.runs.summary import SUMMARY_FILE
from piwsl.structures.files import columns_of

CONFIG = "config.yaml"
TOPOLOGY = "topology.pdb"
THERMO = "thermo.csv"
LOG = "md.log"
START = "start.extxyz"
STOPPED = "stopped.extxyz"
ANALYSIS = "analysis"


# Every replica has a directory of this kind inside the run directory.
MD_RUN = DirectoryKind(
    job="a molecular dynamics run",
    marks=(TOPOLOGY, THERMO, LOG),
    own=(
        *(CONFIG, TOPOLOGY, THERMO, SUMMARY_FILE, LOG, START, STOPPED, *EXPORTED_NAMES),
        *("state-*.npz", "violation-*.extxyz", "trajectory.*", ".lock-*"),
    ),
    log=LOG,
    resume="restart",
    states=("state-*.npz", "replica-*/state-*.npz"),
)


def clear(directory: Path) -> None:
    """Remove the files of an earlier run, its replicas and its analysis; other files are kept."""
    for replica in directory.glob("replica-[0-9]*"):
        if (replica / TOPOLOGY).exists():
            clear(replica)
            if not any(replica.iterdir()):
                replica.rmdir()
    RunDirectory(directory, MD_RUN).clear()
    if (directory / ANALYSIS / "analysis.json").exists():  # it analyzes the removed run
        rmtree(directory / ANALYSIS)


def lock_files(replicas: Sequence[int]) -> list[str]:
    """Return the names of the lock files for some replicas of a run."""
    return [f".lock-{number:03d}" for number in replicas]


def write_structure(path: Path, structure: Atoms, snapshot: Snapshot | None = None, **info: Any) -> None:
    """Write a structure as extended XYZ, with positions and cell from a snapshot if given.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    atoms = structure.copy()
    atoms.info.update(info)
    if snapshot is not None:
        atoms.positions = snapshot.positions
        if snapshot.cell is not None:
            atoms.set_cell(snapshot.cell)
    with writing(path), atomic_path(path) as temporary:
        write(temporary, atoms, format="extxyz", columns=columns_of(atoms))


def read_start(directory: Path) -> Atoms:
    """Read the start structure of a run, with its masses and fixed atoms.

    Raises:
        RunDirectoryError: The file is missing or damaged.
    """
    try:
        return normalized(load_structure(directory / START))
    except DataError as error:
        raise RunDirectoryError(f"{error}: start a new run with force=True") from None
