"""Damaged trajectories: headers that promise too much, frames that disappear, files that make libraries crash."""

import contextlib
import struct

import numpy as np
import pytest
from ase.build import bulk

from piwsl.errors import DataError
from piwsl.md.protocol import MDProtocol
from piwsl.trajectories.files import create_trajectory, open_trajectory, read_trajectory
from piwsl.trajectories.frame_source import FrameSource
from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.trajectories.hdf5 import hdf5_species


@pytest.fixture
def make(ethanol, tmp_path):
    """Write a trajectory of six frames of three ethanol molecules, which XTC compresses."""
    atoms = ethanol + ethanol + ethanol

    def write(kind):
        path = tmp_path / f"t.{kind}"
        writer = create_trajectory(path, atoms, MDProtocol.of(trajectory_format=kind))
        for number in range(6):
            places = np.random.default_rng(number).normal(size=(len(atoms), 3))
            writer.write(OutputFrame(number, 50.0 * number, places))
        writer.close()
        return path

    return write


def altered(path, position, content):
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)
    return path


@pytest.mark.parametrize(
    ("position", "content", "reason"),
    [
        (4, struct.pack(">i", 2**30), "the header is inconsistent"),
        (52, struct.pack(">i", 2**30), "the header is inconsistent"),
        (56, struct.pack(">f", np.inf), "its precision is inf"),
        (60, struct.pack(">i", 2**30), "the header is inconsistent"),
        (88, struct.pack(">i", -4), "27 atoms in -4 bytes"),
        (88, struct.pack(">i", 0), "27 atoms in 0 bytes"),
    ],
)
def test_an_xtc_header_is_checked(position, content, reason, make):
    with pytest.raises(DataError, match=rf"t.xtc: damaged after frame 0 \({reason}\)"):
        open_trajectory(altered(make("xtc"), position, content))


def test_both_numbers_of_atoms_of_an_xtc_are_compared_with_its_bytes(make):
    path = altered(make("xtc"), 4, struct.pack(">i", 2**30))
    with pytest.raises(DataError, match=r"1073741824 atoms in \d+ bytes"):
        open_trajectory(altered(path, 52, struct.pack(">i", 2**30)))


@pytest.mark.slow
def test_noise_in_compressed_positions_is_an_error_or_other_positions(make):
    path = make("xtc")
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, size=12, dtype=np.uint8)
        altered(path, 84, noise[:4].tobytes())
        altered(path, 92 + seed, noise[4:].tobytes())
        with contextlib.suppress(DataError):
            assert read_trajectory(path).positions.shape == (6, 27, 3)


@pytest.mark.parametrize("atoms", [2**31 - 1, 2**28, 10**6])
def test_a_dcd_header_is_compared_with_the_size_of_the_file(atoms, make):
    path = make("dcd")
    place = path.read_bytes().index(struct.pack("<3i", 4, 27, 4)) + 4
    with pytest.raises(DataError, match=f"states {atoms} atoms, but the file has no complete frame"):
        open_trajectory(altered(path, place, struct.pack("<i", atoms)))


@pytest.mark.parametrize("titles", [-(2**31), -1, 2**31 - 1])
def test_the_titles_of_a_dcd_are_within_the_file(titles, make):
    with pytest.raises(DataError, match="not a DCD file, or truncated within the header"):
        open_trajectory(altered(make("dcd"), 92, struct.pack("<i", titles)))


@pytest.fixture
def hdf5(make):
    """Return a function that alters an HDF5 trajectory with h5py."""
    h5py = pytest.importorskip("h5py")

    def change(function):
        path = make("hdf5")
        with h5py.File(path, "r+") as file:
            function(file)
        return path

    return change


def replaced(name, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, **options)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replaced("coordinates", shape=(10**9, 27, 3), chunks=(10, 27, 3), dtype="f4"), "is larger than the file"),
        (replaced("coordinates", shape=(6, 27, 4), dtype="f4"), "coordinates has an unexpected shape or type"),
        (replaced("coordinates", shape=(), dtype="f4"), "coordinates has an unexpected shape or type"),
        (replaced("coordinates", shape=(6, 27, 3), dtype="S4"), "coordinates has an unexpected shape or type"),
        (lambda file: (file.__delitem__("time"), file.create_group("time")), "time has an unexpected shape or type"),
        (replaced("time", shape=(2,), dtype="f4"), "6 frames but 2 times"),
        (lambda file: file.__delitem__("coordinates"), "coordinates or time are missing"),
    ],
)
def test_tables_of_hdf5_are_checked_before_they_are_read(change, reason, hdf5):
    with pytest.raises(DataError, match=reason):
        open_trajectory(hdf5(change))


def test_a_source_that_ends_early_or_changes_its_atoms_is_damaged():
    frames = np.zeros((4, 3, 3))

    def source(*pieces):
        return FrameSource(np.ones(3, dtype=np.int64), 6, None, lambda: iter([(piece, None) for piece in pieces]))

    with pytest.raises(DataError, match="ends after 4 of 6 frames"):
        list(source(frames).pieces())
    with pytest.raises(DataError, match="damaged: frame 5 has 2 atoms instead of 3"):
        list(source(frames, frames[:, :2]).pieces())
    assert len(list(source(frames, frames).pieces())) == 2


@pytest.mark.parametrize("kind", ["dcd", "xtc", "hdf5", "extxyz"])
def test_a_cell_that_is_not_finite_is_one_line(kind, tmp_path):
    atoms = bulk("Cu", cubic=True)
    path = tmp_path / f"t.{kind}"
    writer = create_trajectory(path, atoms, MDProtocol.of(trajectory_format=kind))
    for number in range(3):
        writer.write(OutputFrame(number, 50.0 * number, atoms.positions, atoms.cell.array))
    writer.close()
    content = path.read_bytes()
    if kind == "dcd":
        place = content.rindex(struct.pack("<d", 3.61)) - 16
        altered(path, place, struct.pack("<d", np.nan))
    elif kind == "xtc":
        altered(path, 16, struct.pack(">f", np.inf))
    elif kind == "extxyz":
        altered(path, content.index(b"3.61"), b"nan ")
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "r+") as file:
            file["cell_angles"][1, 1] = np.nan
    with pytest.raises(DataError, match=f"t.{kind}: a cell contains numbers that are not finite"):
        read_trajectory(path)


def test_an_extxyz_cell_that_is_too_large_is_one_line_and_such_a_position_infinite(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.write(tmp_path / "t.extxyz")
    text = (tmp_path / "t.extxyz").read_text()
    (tmp_path / "t.extxyz").write_text(text.replace("3.61", "1e300", 1))
    with pytest.raises(DataError, match=r"t.extxyz: a lattice vector is longer than 1e\+06 angstrom"):
        read_trajectory(tmp_path / "t.extxyz")
    (tmp_path / "t.extxyz").write_text(text.replace("1.80500000", "-1e300", 1))
    assert np.isinf(read_trajectory(tmp_path / "t.extxyz").positions).sum() == 1


@pytest.mark.parametrize("name", ["coordinates", "topology"])
def test_an_hdf5_trajectory_never_leads_to_another_file(name, make):
    h5py = pytest.importorskip("h5py")
    path = make("hdf5")
    path.with_name("other.h5").write_bytes(path.read_bytes())
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", f"/{name}")
    with pytest.raises(DataError, match=f"t.hdf5: {name} refers to another place: copy its content into this file"):
        hdf5_species(path) if name == "topology" else open_trajectory(path)
