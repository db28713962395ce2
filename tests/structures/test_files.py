from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from piwsl.errors import DataError
from piwsl.structures.files import check_structure, load_structure


@pytest.fixture
def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def test_two_atoms_on_top_of_each_other_are_named(ethanol, tmp_path: Path):
    ethanol.positions[4] = ethanol.positions[1] + [0.2, 0, 0]
    write(tmp_path / "bad.xyz", ethanol)
    with pytest.raises(DataError, match=r"bad\.xyz: atoms C1 and H4 are 0\.20 angstrom apart"):
        load_structure(tmp_path / "bad.xyz")


def test_an_overlap_through_the_cell_is_found():
    crystal = Atoms("NaCl", [[0.1, 0, 0], [4.9, 0, 0]], cell=[5, 5, 5], pbc=True)
    with pytest.raises(DataError, match=r"Na0 and Cl1 are 0\.20"):
        check_structure(crystal)
    crystal.pbc = False
    check_structure(crystal)


def test_a_position_that_is_no_number_is_named(ethanol):
    ethanol.positions[3, 1] = np.nan
    with pytest.raises(DataError, match="atom H3 is not a finite number"):
        check_structure(ethanol)


@pytest.mark.parametrize("content", ["", "nonsense\nmore\n", "3\n\nC 0 0 0\n"])
def test_a_file_that_is_no_structure(content, tmp_path: Path):
    path = tmp_path / "structure.xyz"
    path.write_text(content)
    with pytest.raises(DataError, match="not a structure file that ASE reads"):
        load_structure(path)
    with pytest.raises(DataError, match="no such file"):
        load_structure(tmp_path / "missing.xyz")
