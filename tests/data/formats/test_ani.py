"""The layout of the ANI-1x release."""

import h5py
import numpy as np
import pytest

from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.units import HARTREE, KCAL_PER_MOL, parse_units
from tests.support.ani_files import FORMULAS, write_ani
from tests.support.frame_sets import assert_same_frames


def test_conformers_in_hartree(tmp_path):
    content = write_ani(tmp_path / "ani1x.h5")
    frames = read_frames(tmp_path / "ani1x.h5")
    assert len(frames) == 8
    assert frames.notes == ("1 of 9 conformers have no wb97x_dz label and were skipped",)
    methane, ammonia = frames[1], frames[-1]
    assert methane.species.tolist() == FORMULAS["CH4"]
    assert methane.energy == content["CH4"]["wb97x_dz.energy"][1] * HARTREE
    assert np.array_equal(methane.forces, content["CH4"]["wb97x_dz.forces"][1].astype(float) * HARTREE)
    assert np.array_equal(methane.positions, content["CH4"]["coordinates"][1].astype(float))
    assert ammonia.has_energy
    assert not ammonia.has_forces
    assert_same_frames([frames[i] for i in range(8)], list(frames))


def test_another_level_of_theory(tmp_path):
    write_ani(tmp_path / "a.h5")
    frames = read_frames(f"{tmp_path}/a.h5#ccsd(t)_cbs")
    assert len(frames) == 2
    assert [frame.energy for frame in frames] == [-1.5 * HARTREE] * 2
    assert not frames[0].has_forces
    assert "7 of 9 conformers have no ccsd(t)_cbs label" in frames.notes[0]


@pytest.mark.parametrize("unit", ["kcal/mol", np.bytes_("kcal/mol"), [np.bytes_("kcal/mol")]])
def test_units_that_the_file_states_in_any_form_of_text(tmp_path, unit):
    write_ani(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["CH4/wb97x_dz.energy"].attrs["units"] = unit
    with pytest.raises(DataError, match="is in 'kcal/mol': give the units of the file"):
        read_frames(tmp_path / "a.h5")


def test_other_units(tmp_path):
    content = write_ani(tmp_path / "a.h5")
    frames = read_frames(tmp_path / "a.h5", parse_units("kcal/mol, angstrom"))
    assert frames[0].energy == content["CH4"]["wb97x_dz.energy"][0] * KCAL_PER_MOL


@pytest.mark.parametrize(
    ("changes", "source", "message"),
    [
        ({}, "a.h5#mp2_cbs", "levels in the file: ccsd.t._cbs, wb97x_dz"),
        ({"coordinates": np.zeros((3, 7, 3))}, "a.h5", "coordinates has shape"),
        ({"wb97x_dz.forces": np.zeros((3, 2))}, "a.h5", "wb97x_dz.forces has shape"),
        ({"wb97x_dz.energy": np.full(3, np.inf)}, "a.h5", "no conformer has a wb97x_dz energy"),
        ({"wb97x_dz.forces": None, "wb97x_dz.energy": None}, "a.h5", "no conformer has a wb97x_dz energy"),
        ({"atomic_numbers": None}, "a.h5", "with the keys CH4, H2O, NH3; expected"),
    ],
)
def test_bad_files(tmp_path, changes, source, message):
    write_ani(tmp_path / "a.h5", **changes)
    with pytest.raises(DataError, match=message) as error:
        read_frames(f"{tmp_path}/{source}")
    assert "\n" not in str(error.value)
