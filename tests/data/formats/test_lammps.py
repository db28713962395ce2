"""Dumps of LAMMPS: what ASE adds to them or ignores in them."""

import gzip

import numpy as np
import pytest

from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.units import KCAL_PER_MOL

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 9
0 9
0 9
ITEM: ATOMS id element x y z fx fy fz
1 Cu 0 0 0 0.1 0 0
2 Cu 0 1.8 1.8 -0.1 0 0
"""


def read(tmp_path, text=DUMP, name="run.lammpstrj", **options):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_frames(path, **options)


def test_the_energy_that_ase_invents_is_no_label(tmp_path):
    frames = read(tmp_path)
    assert np.array_equal(frames[0].forces[:, 0], [0.1, -0.1])
    assert not frames[0].has_energy
    assert "energy" not in frames.names.read


def test_stated_units_are_compared(tmp_path):
    real = f"ITEM: UNITS\nreal\n{DUMP}"
    with pytest.raises(DataError, match="units is 'kcal/mol, angstrom', but the file is read with other units"):
        read(tmp_path, real)
    assert read(tmp_path, real, units="kcal/mol, angstrom")[0].forces[0, 0] == pytest.approx(0.1 * KCAL_PER_MOL)
    assert read(tmp_path, f"ITEM: UNITS\nmetal\n{DUMP}")[0].forces[0, 0] == 0.1
    with pytest.raises(DataError, match="a LAMMPS dump in the units 'lj'"):
        read(tmp_path, f"ITEM: UNITS\nlj\n{DUMP}")


@pytest.mark.parametrize("name", ["run.lammpstrj", "run.lammpstrj.gz"])
def test_type_numbers_are_no_elements(tmp_path, name):
    with pytest.raises(DataError, match="type numbers instead of elements"):
        read(tmp_path, DUMP.replace("element", "type").replace("Cu", "1"), name)


@pytest.mark.parametrize("head", ["ITEM: TIME\n0.5\n", "ITEM: UNITS\nmetal\nITEM: TIME\n0.5\n"])
def test_dumps_that_begin_with_the_time(tmp_path, head):
    """`dump_modify time yes` writes the time before the time step."""
    frames = read(tmp_path, head + DUMP)
    assert frames[0].has_forces
    assert not frames[0].has_energy
    with pytest.raises(DataError, match="type numbers instead of elements"):
        read(tmp_path, head + DUMP.replace("element", "type").replace("Cu", "1"))
