"""Directories, patterns and names as sources of frames."""

from pathlib import Path

import numpy as np
import pytest

from piwsl.data.formats.lmdb import write_lmdb
from piwsl.data.frames import FrameSet
from piwsl.data.lazy import JoinedFrames
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError, MissingDependencyError
from piwsl.units import parse_units
from tests.support.frame_sets import assert_same_frames, mixed_frames
from tests.support.molecules import frame


def fill(folder):
    """Three data files, one of them deeper, and others."""
    water, methane = (FrameSet([frame(name, labeled=True)]) for name in ("H2O", "CH4"))
    write_frames(methane, folder / "b.npz")
    write_frames(mixed_frames(), folder / "a.h5")
    write_frames(water, folder / "deeper" / "c.npz")
    write_frames(water, folder / "deeper" / "deepest" / "d.npz")
    (folder / "README.md").write_text("text")
    (folder / "metadata.json").write_text('{"name": "a set"}')
    np.savez(folder / "sizes.npz", natoms=np.arange(3))
    return [*mixed_frames(), methane[0], water[0]]


def test_a_directory(tmp_path):
    expected = fill(tmp_path)
    frames = read_frames(str(tmp_path))
    assert isinstance(frames.frames, JoinedFrames)
    assert_same_frames(frames, expected)
    assert frames.source == tmp_path
    assert [file.name for file in frames.files] == ["a.h5", "b.npz", "c.npz"]
    assert frames.notes == ("joined 3 files: a.h5, b.npz, c.npz", "skipped README.md, metadata.json, sizes.npz")
    assert frames.elements == [1, 6, 8, 22]


def test_a_pattern(tmp_path, monkeypatch):
    expected = fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    frames = read_frames("[bc]*.npz")
    assert_same_frames(frames, [expected[-2]])
    assert_same_frames(read_frames("**/[bc].npz"), expected[-2:])
    assert_same_frames(read_frames(Path("a.h?")), expected[:-2])
    with pytest.raises(DataError, match="no file matches"):
        read_frames("*.xyz")


def test_a_file_whose_name_is_a_pattern(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a[1].h5")
    assert len(read_frames(tmp_path / "a[1].h5")) == 7


def test_notes_of_many_files_are_short(tmp_path):
    for number in range(5):
        write_frames(mixed_frames(), tmp_path / f"{number}.extxyz")
        text = (tmp_path / f"{number}.extxyz").read_text().replace("REF_", "")
        (tmp_path / f"{number}.extxyz").write_text(text)
    notes = read_frames(tmp_path).notes
    assert notes == (
        "joined 5 files: 0.extxyz, 1.extxyz, 2.extxyz and 2 more",
        "0.extxyz, 1.extxyz, 2.extxyz and 2 more: 6 of 7 frames have no REF_energy/REF_forces: "
        "plain energy/forces were read instead",
    )


def test_a_directory_with_a_damaged_file_is_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:200])
    with pytest.raises(DataError, match=r"b.npz: cannot be read as an npz file"):
        read_frames(tmp_path)


def test_a_directory_without_data(tmp_path):
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(DataError, match="contains no data file"):
        read_frames(tmp_path)


def test_a_named_data_set(monkeypatch):
    # Without a network: only the choice of the reader is tested here, and downloads in tests/data/datasets.
    monkeypatch.setattr("piwsl.data.read.is_dataset", lambda name: name == "test:water")
    monkeypatch.setattr("piwsl.data.read.dataset_frames", lambda name: mixed_frames())
    assert len(read_frames("test:water")) == 7
    with pytest.raises(DataError, match="leave out units"):
        read_frames("test:water", parse_units("eV"))
    with pytest.raises(DataError, match="no such file, directory or data set"):
        read_frames("test:wine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("b.npy", "perhaps .*b.npz"),
        ("nowhere/b.npz", "there is no folder .*nowhere"),
        ("b.npz#wb97x_dz", "only ANI HDF5 files"),
        ("a.h5#wb97x_dz", "leave out '#wb97x_dz'"),
    ],
)
def test_a_source_that_is_not_there_names_what_is(tmp_path, source, message):
    fill(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        read_frames(f"{tmp_path}/{source}")
    assert "\n" not in str(error.value)


def test_a_misspelt_data_set_is_named_right():
    with pytest.raises(DataError, match="perhaps aspirin-ccsd"):
        read_frames("asprin-ccsd")


def test_units_of_a_file_that_states_its_own(tmp_path):
    fill(tmp_path)
    for name in ("a.h5", "b.npz"):
        with pytest.raises(DataError, match="leave out units"):
            read_frames(tmp_path / name, parse_units("kcal/mol"))
    assert len(read_frames(tmp_path / "b.npz", parse_units("eV, angstrom"))) == 1


@pytest.mark.parametrize(
    ("library", "use"),
    [("h5py", lambda path: read_frames(path)), ("lmdb", lambda path: write_lmdb(path, [frame("H2O")]))],
)
def test_optional_libraries(tmp_path, monkeypatch, library, use):
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}, .*piwsl\[data\]"):
        use(tmp_path / "a.h5")
