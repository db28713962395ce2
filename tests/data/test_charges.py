"""Charge and spin of structures: conventions, file formats, the report."""

import logging

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write

from piwsl.data.batch import collate
from piwsl.data.charges import given_charge, stated_charge
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import inspect_frames, structure_warnings
from piwsl.data.read import read_frames
from piwsl.data.structure_file import load_structure
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError

WATER = [8, 1, 1]  # 10 electrons


def water(energy: float = -10.0, **info: float) -> Frame:
    atoms = molecule("H2O")
    atoms.info.update(info)
    return Frame.from_atoms(atoms, energy)


@pytest.mark.parametrize(
    ("named", "charge", "unpaired"),
    [
        ({"charge": -1}, -1, np.nan),
        ({"total_charge": np.float32(1.0), "multiplicity": 2}, 1, 1),
        ({"charge": 0, "spin_multiplicity": 3}, 0, 2),
        ({"num_unpaired_electrons": 2}, np.nan, 2),
        ({"charge": 0, "spin": 1}, 0, 0),  # ten electrons: one cannot be the number of unpaired electrons
        ({"charge": 0, "spin": 2}, 0, 2),
        ({"charge": 0, "spin": 0}, 0, 0),
        ({"charge": 1, "spin": 1}, 1, 1),
        ({"charge": 1, "spin": 2}, 1, 1),
        ({"charge": 1, "spin": 0}, 1, 0),
        ({"spin": 3, "multiplicity": 3}, np.nan, 2),
        ({"charge": [0.1, 0.2, -0.3]}, np.nan, np.nan),  # partial charges
        ({"charge": np.zeros(3), "spin": "up", "multiplicity": None}, np.nan, np.nan),
        ({"charge": np.nan}, np.nan, np.nan),
    ],
)
def test_conventions(named, charge, unpaired):
    stated = stated_charge(named, WATER, "frame 0")
    np.testing.assert_equal((stated.charge, stated.unpaired_electrons), (charge, unpaired))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"charge": 0.5}, "frame 3: charge is 0.5; expected an integer from -100 to 100: correct or rename it"),
        ({"charge": np.inf}, "charge is inf; expected an integer"),
        ({"spin": 0.5}, "spin is 0.5; expected an integer from 0 to 100: state unpaired_electrons or multiplicity"),
        ({"multiplicity": 0}, "multiplicity is 0; expected an integer from 1 to 100"),
        ({"unpaired_electrons": -1}, "unpaired_electrons is -1"),
        ({"charge": 1, "total_charge": 0}, "charge=1 and total_charge=0 contradict each other"),
        ({"multiplicity": 1, "unpaired_electrons": 1}, "unpaired_electrons=1 and multiplicity=1 contradict"),
    ],
)
def test_values_that_cannot_be_used(named, message):
    with pytest.raises(DataError, match=message):
        stated_charge(named, WATER, "frame 3")


def test_arguments():
    assert given_charge(1).info() == {"charge": 1}
    assert given_charge(-1, 1).info() == {"charge": -1, "unpaired_electrons": 1}
    for wrong in ({"charge": 0.5}, {"unpaired_electrons": -1}, {"charge": 1000}):
        with pytest.raises(ConfigError, match="give an integer from"):
            given_charge(**wrong)


@pytest.mark.parametrize("suffix", [".extxyz", ".npz", ".h5", ".db", ".aselmdb"])
def test_each_format_keeps_them(tmp_path, suffix):
    frames = [water(), water(charge=-1, spin=2), water(charge=0, multiplicity=1), water(charge=1), water(spin=3)]
    expected = [[np.nan, np.nan], [-1, 1], [0, 0], [1, np.nan], [np.nan, 2]]
    write_frames(FrameSet(frames), tmp_path / f"charged{suffix}")
    read = read_frames(tmp_path / f"charged{suffix}")
    np.testing.assert_equal([[frame.charge, frame.unpaired_electrons] for frame in read], expected)
    np.testing.assert_equal([[read[i].charge, read[i].unpaired_electrons] for i in range(5)], expected)
    np.testing.assert_equal(read.census.charge_spin.tolist(), expected)
    np.testing.assert_equal(read.select([1, 3]).census.charge_spin.tolist(), [expected[1], expected[3]])
    assert {"charge", "unpaired_electrons"} <= set(read.names.read)


@pytest.mark.parametrize("suffix", [".extxyz", ".npz", ".h5", ".db"])
def test_files_without_charges(tmp_path, suffix):
    write_frames(FrameSet([water()]), tmp_path / f"plain{suffix}")
    read = read_frames(tmp_path / f"plain{suffix}")
    assert not read[0].charge_spin.is_stated
    assert not read.census.states_charges
    assert not {"charge", "unpaired_electrons"} & set(read.names.read)
    assert collate(read, 3.0).charge_spin is None


def test_a_packed_file_whose_later_frames_are_charged(tmp_path, monkeypatch):
    monkeypatch.setattr("piwsl.data.formats.packed.BLOCK", 2)
    write_frames(FrameSet([water(), water(), water(), water(charge=1)]), tmp_path / "late.h5")
    read = read_frames(tmp_path / "late.h5")
    np.testing.assert_equal([frame.charge for frame in read], [np.nan, np.nan, np.nan, 1])


def test_ase_trajectories(tmp_path):
    write(tmp_path / "charged.traj", water(charge=-1, spin=2).atoms())
    (frame,) = read_frames(tmp_path / "charged.traj")
    assert (frame.charge, frame.unpaired_electrons) == (-1, 1)


@pytest.mark.parametrize(("value", "read"), [(1, [1, 1]), ([0, 1], [0, 1])])
def test_npz_files_of_other_programs(tmp_path, value, read):
    arrays = {"z": WATER, "R": np.stack([molecule("H2O").positions] * 2), "E": np.zeros(2), "units": "eV, angstrom"}
    np.savez(tmp_path / "other.npz", **arrays, total_charge=value)
    assert [frame.charge for frame in read_frames(tmp_path / "other.npz")] == read
    np.savez(tmp_path / "wrong.npz", **arrays, charge=[1, 2, 3])
    with pytest.raises(DataError, match=r"charge has shape \(3,\), expected one value or \(2,\)"):
        read_frames(tmp_path / "wrong.npz")


def test_partial_charges_are_no_total_charge(tmp_path):
    atoms = molecule("H2O")
    atoms.arrays["charge"] = np.array([-0.8, 0.4, 0.4])
    write(tmp_path / "partial.extxyz", atoms)
    read = read_frames(tmp_path / "partial.extxyz")
    assert not read[0].charge_spin.is_stated
    assert "charge" in read.names.unread


def test_the_report_names_what_was_read(tmp_path):
    frames = [water(charge=1), water(), water(charge=0)]
    for frame, spin in zip(frames, (2, 1, 2), strict=True):
        atoms = frame.atoms()
        atoms.info["spin"] = spin
        write(tmp_path / "spins.extxyz", atoms, append=True)
    report = inspect_frames(read_frames(tmp_path / "spins.extxyz"))
    assert report.names.read == {"charge": 2, "spin (as multiplicity)": 2, "spin (as unpaired electrons)": 1}
    assert any("spin was read 2 times as multiplicity, 1 times as unpaired electrons" in w for w in report.warnings)
    line = next(line for line in report.lines() if line.startswith("charges"))
    assert line == "charges            e: 0 (1), +1 (1), not stated (1); unpaired electrons: 0 (1), 1 (1), 2 (1)"


def test_wrong_parity_is_reported():
    report = inspect_frames(FrameSet([water(charge=1, unpaired_electrons=0), water(charge=0, unpaired_electrons=0)]))
    assert any(warning.startswith("in 1 frames, the number of unpaired electrons") for warning in report.warnings)


def test_batches():
    batch = collate([water(charge=-1), water(), water(spin=3)], 3.0)
    expected = [[-1, np.nan], [np.nan, np.nan], [np.nan, 2]]
    np.testing.assert_equal(batch.charge_spin.numpy(), expected)
    copies = batch.copies([None, torch.zeros(9, 3)], [0, 1])
    np.testing.assert_equal(copies.charge_spin.numpy(), expected * 2)
    assert batch.graph[-1] is batch.charge_spin


@pytest.mark.parametrize("suffix", ["xyz", "traj"])
@pytest.mark.parametrize(("name", "value"), [("charge", "abc"), ("multiplicity", "doublet"), ("total_charge", True)])
def test_a_charge_in_words_is_an_error(tmp_path, suffix, name, value):
    atoms = molecule("H2O")
    atoms.info.update({"REF_energy": -1.0, name: value})
    write(tmp_path / f"a.{suffix}", atoms)
    with pytest.raises(DataError, match=f"frame 0.*: {name} is .*; expected an integer"):
        read_frames(tmp_path / f"a.{suffix}")


def test_a_spin_in_words_is_not_read(tmp_path):
    atoms = molecule("H2O")
    atoms.info.update({"REF_energy": -1.0, "spin": "polarized"})
    write(tmp_path / "a.xyz", atoms)
    frames = read_frames(tmp_path / "a.xyz")
    assert "spin" in frames.names.unread
    assert not frames[0].states_charge


@pytest.mark.parametrize("suffix", [".extxyz", ".traj"])
def test_initial_charges_whose_sum_is_no_stated_charge_are_reported(tmp_path, suffix, caplog):
    """Calculators of ASE, such as that of tblite, take their sum as the total charge."""
    atoms = molecule("H2O")
    for name, charges, info in (
        ("ion", [0.6, 0.2, 0.2], {}),
        ("neutral", [-0.8, 0.4, 0.4], {}),
        ("stated", [0.6, 0.2, 0.2], {"charge": 1}),
    ):
        atoms.set_initial_charges(charges)
        atoms.info = info
        path = tmp_path / f"{name}{suffix}"
        write(path, atoms)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            load_structure(path)
        texts = [*structure_warnings(read_frames(path)), caplog.text]
        assert ["'initial_charges'" in text for text in texts if text] == [True] * 2 * (name == "ion"), texts
