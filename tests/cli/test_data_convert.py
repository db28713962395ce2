"""`piwsl data convert` and `piwsl data inspect`."""

import numpy as np
import pytest
from ase.io import write

from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.systems import SYSTEMS
from piwsl.data.write import write_frames
from tests.support.frame_sets import assert_same_frames, mixed_frames
from tests.support.molecules import frame


def test_convert_and_inspect(cli, tmp_path):
    write_frames(mixed_frames(), tmp_path / "in.extxyz")
    called = cli("data", "convert", "in.extxyz", "deep/out.h5")
    assert called.code == 0
    assert "frames 7/7" in called.out
    assert "deep/out.h5: 7 frames, energies on 4, forces on 5, stress on 1; 0." in called.out
    assert_same_frames(read_frames("deep/out.h5"), mixed_frames(), 1e-8)
    called = cli("data", "inspect", "deep/out.h5")
    assert "energies on 4 and forces on 5 of 7 frames, stress on 1" in called.out


def test_a_pattern_with_units(cli, tmp_path):
    water = frame("H2O", labeled=True)
    for name in "ab":
        np.savez(
            tmp_path / f"{name}.npz",
            nuclear_charges=water.species,
            coords=water.positions[None],
            energies=[-10.0],
            forces=water.forces[None],
        )
    assert cli("data", "convert", "*.npz", "both.extxyz", "--units", "kcal/mol").code == 0
    both = read_frames("both.extxyz")
    assert [round(one.energy, 6) for one in both] == [-0.433641, -0.433641]
    assert "spread" in cli("data", "inspect", "*.npz", "--units", "kcal/mol").out


def test_notes_are_shown(cli, tmp_path):
    write_frames(mixed_frames(), tmp_path / "set" / "a.h5")
    (tmp_path / "set" / "README").write_text("text")
    assert "note: skipped README" in cli("data", "convert", "set", "b.h5").out


@pytest.mark.slow
def test_an_existing_file_is_kept(cli, tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    write_frames(FrameSet([frame("H2O")]), tmp_path / "b.h5")
    called = cli("data", "convert", "b.h5", "a.h5")
    assert called.code == 2
    assert called.errors == ["piwsl: a.h5 exists: choose another name, or replace it with --force"]
    assert len(read_frames("a.h5")) == 7
    assert cli("data", "convert", "b.h5", "a.h5", "--force").code == 0
    assert len(read_frames("a.h5")) == 1


def test_errors_are_one_line(cli, tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    for arguments in (("a.h5", "a.npz"), ("a.h5", "a.cif"), ("none.h5", "b.h5"), ("a.h5", "b.h5", "--units", "eV")):
        called = cli("data", "convert", *arguments)
        assert called.code == 2
        assert len(called.errors) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]


def test_names_that_are_not_converted_are_printed(cli, tmp_path):
    atoms = frame("H2O").atoms()
    atoms.info["weight"], atoms.info["REF_energy"] = 2.0, -10.0
    atoms.set_masses([16.0, 2.0, 2.0])
    atoms.arrays["force"] = np.zeros((3, 3))
    write(tmp_path / "in.extxyz", atoms)
    called = cli("data", "convert", "in.extxyz", "out.h5")
    assert "names not read     masses, force, weight" in called.out
    assert "warning: 1 of 1 frames have no forces, but 'force'" in called.out


def test_a_directory_in_place_of_the_file(cli, tmp_path):
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "folder.png").mkdir()
    model = SYSTEMS["aspirin"].model
    for line in (
        ("data", "convert", "aspirin", "folder.h5", "--force"),
        ("export", model, "--output", "folder.pt", "--force"),
        ("evaluate", model, "aspirin", "--plot", "folder.png", "--force"),
    ):
        called = cli(*line)
        assert (called.code, len(called.errors)) == (2, 1)
        assert " is a directory, not a file: choose another " in called.errors[0]
