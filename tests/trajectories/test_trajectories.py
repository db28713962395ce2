import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.build import bulk
from ase.geometry import cell_to_cellpar
from ase.io import read

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.md.protocol import MDProtocol
from piwsl.structures.bonds import bonded_pairs
from piwsl.trajectories.files import create_trajectory, read_trajectory
from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.trajectories.topology import write_topology
from tests.support.limits import limited_files

PRECISION = {"dcd": 1e-5, "xtc": 6e-3, "extxyz": 1e-6, "hdf5": 1e-5}
KINDS = list(PRECISION)
ROOT = str(Path(__file__).parents[2])


def protocol(kind: str, **options) -> MDProtocol:
    return MDProtocol.of(trajectory_format=kind, **options)


def frame(number: int, atoms, **more) -> OutputFrame:
    positions = np.random.default_rng(number).normal(size=(len(atoms), 3)) * 3
    cell = atoms.cell.array * (1 + 0.01 * number) if atoms.pbc.any() else None
    return OutputFrame(100 * number, 50.0 * number, positions, cell, **more)


def write_frames(path: Path, atoms, kind: str, numbers, keep: int = 0, **options) -> None:
    writer = create_trajectory(path, atoms, protocol(kind, **options), keep)
    for number in numbers:
        writer.write(frame(number, atoms))
    writer.close()


def positions_of(atoms, numbers):
    return np.stack([frame(number, atoms).positions for number in numbers])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind, ethanol, tmp_path):
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    raw = read_trajectory(path)
    assert np.abs(raw.positions - positions_of(ethanol, range(1, 13))).max() < PRECISION[kind]
    if kind != "dcd":
        assert raw.times == pytest.approx(50.0 * np.arange(1, 13))


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_mdtraj_opens_trajectory_and_topology(kind, ethanol, tmp_path):
    write_frames(tmp_path / f"t.{kind}", ethanol, kind, range(1, 13))
    write_topology(tmp_path / "topology.pdb", ethanol, bonded_pairs(ethanol))
    loaded = mdtraj.load(str(tmp_path / f"t.{kind}"), top=str(tmp_path / "topology.pdb"))
    assert np.abs(loaded.xyz * 10 - positions_of(ethanol, range(1, 13))).max() < PRECISION[kind]
    assert [atom.element.symbol for atom in loaded.topology.atoms] == ethanol.get_chemical_symbols()
    assert loaded.topology.n_bonds == 8
    assert loaded.unitcell_lengths is None


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_cells_reach_mdtraj(kind, tmp_path):
    atoms = bulk("Ti", "hcp", a=2.95, c=4.69).repeat((2, 2, 1))  # an angle of 120 degrees
    write_frames(tmp_path / f"t.{kind}", atoms, kind, (1, 2, 3))
    write_topology(tmp_path / "topology.pdb", atoms, bonded_pairs(atoms))
    loaded = mdtraj.load(str(tmp_path / f"t.{kind}"), top=str(tmp_path / "topology.pdb"))
    for number in (1, 2, 3):
        expected = cell_to_cellpar(frame(number, atoms).cell)
        assert loaded.unitcell_lengths[number - 1] * 10 == pytest.approx(expected[:3], abs=1e-4)
        assert loaded.unitcell_angles[number - 1] == pytest.approx(expected[3:], abs=1e-3)


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
@pytest.mark.parametrize("handed", [1, -1])
def test_any_cell_is_read_as_the_same_crystal(kind, handed, tmp_path):
    """Cells are lengths and angles to mdtraj: all distances between periodic images must survive."""
    atoms = bulk("Ar").repeat((4, 4, 4))  # no vector of the primitive cell is along x
    atoms.set_cell(atoms.cell.array * handed)
    atoms.rattle(0.3, seed=1)
    writer = create_trajectory(tmp_path / f"t.{kind}", atoms, protocol(kind))
    writer.write(OutputFrame(100, 50.0, atoms.positions, atoms.cell.array))
    writer.close()
    write_topology(tmp_path / "topology.pdb", atoms, bonded_pairs(atoms))
    expected = atoms.get_all_distances(mic=True)[0, 1:]
    pairs = [(0, other) for other in range(1, len(atoms))]
    top = str(tmp_path / "topology.pdb")
    for loaded in (mdtraj.load(str(tmp_path / f"t.{kind}"), top=top), mdtraj.load(top)):
        assert 10 * mdtraj.compute_distances(loaded, pairs)[0] == pytest.approx(expected, abs=0.02)
        assert 10 * mdtraj.compute_distances(loaded, pairs, periodic=False)[0] == pytest.approx(
            atoms.get_all_distances()[0, 1:], abs=0.02
        )


def test_extended_xyz_holds_everything(tmp_path):
    atoms = bulk("Ar", cubic=True)
    writer = create_trajectory(tmp_path / "t.extxyz", atoms, protocol("extxyz", write=("velocities", "forces")))
    made = frame(3, atoms, velocities=np.full((4, 3), 0.012345678), forces=np.arange(12.0).reshape(4, 3))
    writer.write(made)
    writer.close()
    found = read(tmp_path / "t.extxyz")
    assert (found.info["step"], found.info["time_fs"]) == (300, 150.0)
    assert np.allclose(found.cell.array, made.cell)
    assert np.allclose(found.arrays["velocities"], made.velocities)
    assert np.allclose(found.get_forces(), made.forces)


def test_hdf5_follows_the_conventions(tmp_path):
    """Layout and units of mdtraj's HDF5 format, version 1.1, seen with h5py alone."""
    import h5py

    atoms = bulk("Ar", cubic=True)
    atoms.set_cell(atoms.cell.array[[1, 2, 0]])  # its first vector along y: what is written has it along x
    writer = create_trajectory(tmp_path / "t.hdf5", atoms, protocol("hdf5", write=("velocities", "forces")))
    made = frame(3, atoms, velocities=np.full((4, 3), 0.0125), forces=np.arange(12.0).reshape(4, 3))
    writer.write(made)
    writer.close()
    with h5py.File(tmp_path / "t.hdf5") as file:
        assert (file.attrs["conventions"], file.attrs["conventionVersion"]) == (b"Pande", b"1.1")
        assert {name: data.attrs["units"] for name, data in file.items() if name != "topology"} == {
            "coordinates": b"nanometers",
            "time": b"picoseconds",
            "cell_lengths": b"nanometers",
            "cell_angles": b"degrees",
            "velocities": b"nanometers/picosecond",
            "forces": b"eV/angstrom",
        }
        turned = [1, 2, 0]
        assert np.allclose(file["coordinates"][0], made.positions[:, turned] / 10, atol=1e-6)
        assert file["time"][0] == pytest.approx(0.15)
        assert np.allclose(file["velocities"], 1.25)
        assert np.allclose(file["forces"][0], made.forces[:, turned])
        assert np.allclose(file["cell_lengths"], 0.526 * 1.03, atol=1e-5)


def test_mdtraj_opens_hdf5(ethanol, tmp_path):
    pytest.importorskip("tables", reason="mdtraj reads HDF5 with pytables, which is not installed")
    write_frames(tmp_path / "t.h5", ethanol, "hdf5", range(1, 4))
    loaded = mdtraj.load(str(tmp_path / "t.h5"))
    assert np.abs(loaded.xyz * 10 - positions_of(ethanol, range(1, 4))).max() < 1e-5
    assert loaded.topology.n_bonds == 8


def test_velocities_need_a_format_that_holds_them():
    with pytest.raises(
        ConfigError, match="dcd files contain positions only: choose trajectory_format='extxyz' or 'hdf5'"
    ):
        MDProtocol.of(write=("velocities",))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0, 40])
def test_a_trajectory_is_cut_and_continued(kind, cut, ethanol, tmp_path, capfd):
    if kind == "hdf5" and cut:
        pytest.skip("the end of an HDF5 file is no frame")
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    for _ in range(2):  # a restart that is killed at once is followed by another
        create_trajectory(path, ethanol, protocol(kind), 7).close()
        assert len(read_trajectory(path).positions) == 7
    write_frames(path, ethanol, kind, [20], keep=7)
    raw = read_trajectory(path)
    expected = positions_of(ethanol, [1, 2, 3, 4, 5, 6, 7, 20])
    assert raw.notes == ()
    assert np.abs(raw.positions - expected).max() < PRECISION[kind]
    assert capfd.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz"])
@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_cut_frame_is_no_frame(kind, cut, ethanol, tmp_path):
    """Not even where the last number of a line is merely shorter."""
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    path.write_bytes(path.read_bytes()[:-cut])
    raw = read_trajectory(path)
    assert len(raw.positions) == 11
    assert raw.notes == (f"{path.name} is truncated within frame 12: its 11 complete frames are used",)
    with pytest.raises(RunDirectoryError, match="contains 11 frames, but the restart needs 12"):
        create_trajectory(path, ethanol, protocol(kind), 12)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_frames_are_refused_and_the_file_stays(kind, ethanol, tmp_path):
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    with pytest.raises(RunDirectoryError, match="contains 12 frames, but the restart needs 13"):
        create_trajectory(path, ethanol, protocol(kind), 13)
    assert len(read_trajectory(path).positions) == 12
    with pytest.raises(RunDirectoryError, match="contains 0 frames, but the restart needs 3"):
        create_trajectory(tmp_path / f"missing.{kind}", ethanol, protocol(kind), 3)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> dict[str, list[dict[str, int]]]:
    """What became of writers that were killed, for each format; one process, since it has much to import."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("killed_writers.py"))]
    folder = tmp_path_factory.mktemp("killed")
    said = subprocess.run(
        [*command, str(folder), *KINDS], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_others_see_what_was_flushed_and_a_kill_leaves_it(kind, killed):
    attempts = killed[kind]
    assert len(attempts) == 4
    for attempt in attempts:
        assert attempt["seen"] >= attempt["seen_flushed"]  # while the writer ran
        assert attempt["left"] >= attempt["flushed"]
    assert attempts[-1]["kept"] > 0  # it was cut and continued


def write_until_full(writer, frames, flushes: int) -> tuple[int, str]:
    """Frames that were flushed before the disk was full, and what was said then."""
    flushed = 0
    with limited_files(120_000):
        try:
            for number, one in enumerate(frames, start=1):
                writer.write(one)
                if number % flushes == 0:
                    writer.flush()
                    flushed = number
            writer.flush()
        except RunDirectoryError as error:
            return flushed, str(error)
    raise AssertionError("the disk was not full")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flushes", [1, 5, 10_000])
def test_a_full_disk_is_one_line_and_leaves_whole_frames(kind, flushes, ethanol, tmp_path):
    path = tmp_path / f"t.{kind}"
    made = [frame(number, ethanol) for number in range(1, 2000)]
    writer = create_trajectory(path, ethanol, protocol(kind))
    flushed, said = write_until_full(writer, made, flushes)
    assert said == f"{path}: cannot be written (File too large): make room, then try again"
    writer.close()  # which has nothing to say any more
    raw = read_trajectory(path)
    count = len(raw.positions)
    assert (count >= max(flushed, 100), raw.notes) == (True, ())
    assert np.abs(raw.positions - np.stack([one.positions for one in made[:count]])).max() < PRECISION[kind]
    write_frames(path, ethanol, kind, [500], keep=90)  # with room, it goes on
    assert np.abs(read_trajectory(path).positions[-1] - frame(500, ethanol).positions).max() < PRECISION[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_takes_nothing_is_one_line(kind, ethanol, tmp_path):
    def write() -> None:
        with closing(create_trajectory(tmp_path / f"t.{kind}", ethanol, protocol(kind))) as writer:
            writer.write(frame(1, ethanol))

    with limited_files(10), pytest.raises(RunDirectoryError, match=r"cannot be written \(.*\): make room, then"):
        write()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_one_line(kind, ethanol, tmp_path):
    (tmp_path / f"t.{kind}").mkdir()
    with pytest.raises(RunDirectoryError, match=rf"t\.{kind}: cannot be written \(Is a directory\): choose"):
        create_trajectory(tmp_path / f"t.{kind}", ethanol, protocol(kind))
