"""The structure in a file, with everything that ASE reads: constraints, masses, velocities."""

import logging
import warnings
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from piwsl.data.charges import charge_of, lacks_charge
from piwsl.data.formats.extxyz import is_extxyz, last_frame
from piwsl.data.names import CELL, label_of, shown
from piwsl.errors import DataError, not_a_file, reason_of
from piwsl.structures.files import check_structure
from piwsl.structures.isotopes import with_isotopes

LOGGER = logging.getLogger(__name__)


def load_structure(path: str | Path) -> Atoms:
    """Read the last structure of a file that ASE can read.

    The frames of an XYZ file are those of `read_extxyz`, because the reader of ASE ends at the first empty line.

    Raises:
        DataError: The file is missing or cannot be read, or the structure fails `check_structure`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(not_a_file(path))
    is_pdb = path.suffix.lower() in (".pdb", ".ent")
    frame = last_frame(path) if is_extxyz(path) else None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if frame is None:
                with np.errstate(divide="ignore", invalid="ignore"):  # angles of zero, which raise an error below
                    atoms = with_isotopes(lambda: read(path, index=-1, do_not_split_by_at_sign=True))
            else:
                atoms = with_isotopes(lambda: read(StringIO(frame), index=-1, format="extxyz"))
    except Exception as error:  # ASE's readers raise any exception for damaged files
        if is_pdb and isinstance(error, AssertionError):
            raise DataError(
                f"{path}: its CRYST1 record is not a cell: correct its lengths and angles, or remove it for no cell"
            ) from None
        raise DataError(f"{path}: not a structure file that ASE can read ({reason_of(error)})") from None
    assert isinstance(atoms, Atoms)
    lengths = atoms.cell.lengths()
    if is_pdb and atoms.pbc.any() and (np.array_equal(atoms.cell.array, np.eye(3)) or not lengths.any()):
        LOGGER.info(f"{path}: CRYST1 of {' x '.join(f'{x:g}' for x in lengths)} angstrom is read as no cell")
        atoms.cell[:], atoms.pbc = 0.0, False
    for text in _remarks(path, atoms):
        LOGGER.warning(f"{path}: {text}")
    check_structure(atoms, str(path))
    for text in dict.fromkeys(
        reason_of(UserWarning(entry.message)) for entry in caught if entry.category is UserWarning
    ):
        if text.startswith("Wrong number"):  # of values in a line of a CIF file, after which ASE leaves out all atoms
            raise DataError(f"{path}: {text}: correct the line")
        LOGGER.warning(f"{path}: {text}")
    atoms.calc = None
    return atoms


def _remarks(path: Path, atoms: Atoms) -> list[str]:
    """Return what the file contains and a run ignores: a cell of another name, and charges of the atoms."""
    named = () if atoms.cell.array.any() else {**atoms.info, **atoms.arrays}
    remarks = [
        f"has no cell, but {shown(name)!r}, which is not read: if it is the cell, state it as the format does (Lattice)"
        for name in named
        if label_of(name) == CELL
    ]
    if lacks_charge(atoms.arrays, charge_of(atoms, str(path))):
        remarks.append(
            f"'initial_charges' are not read and have a sum of {atoms.get_initial_charges().sum():+g} e, but the "
            "structure states no charge: a network that takes a charge needs it as 'charge'"
        )
    return remarks
