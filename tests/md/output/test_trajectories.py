import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mdtraj
import numpy as np
import pytest
from ase.build import bulk
from ase.geometry import cell_to_cellpar
from ase.io import read

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.md.analysis.trajectory_files import read_trajectory
from piwsl.md.output.frame import OutputFrame
from piwsl.md.output.make import open_trajectory
from piwsl.md.output.topology import write_topology
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import bonded_pairs

PRECISION = {"dcd": 1e-5, "xtc": 6e-3, "extxyz": 1e-6, "hdf5": 1e-5}
KINDS = list(PRECISION)


def protocol(kind: str, **options) -> MDProtocol:
    return MDProtocol.of(trajectory_format=kind, **options)


def frame(number: int, atoms, **more) -> OutputFrame:
    positions = np.random.default_rng(number).normal(size=(len(atoms), 3)) * 3
    cell = atoms.cell.array * (1 + 0.01 * number) if atoms.pbc.any() else None
    return OutputFrame(100 * number, 50.0 * number, positions, cell, **more)


def write_frames(path: Path, atoms, kind: str, numbers, keep: int = 0, **options) -> None:
    writer = open_trajectory(path, atoms, protocol(kind, **options), keep)
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


def test_extended_xyz_holds_everything(tmp_path):
    atoms = bulk("Ar", cubic=True)
    writer = open_trajectory(tmp_path / "t.extxyz", atoms, protocol("extxyz", write=("velocities", "forces")))
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
    writer = open_trajectory(tmp_path / "t.hdf5", atoms, protocol("hdf5", write=("velocities", "forces")))
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
        assert np.allclose(file["coordinates"][0], made.positions / 10, atol=1e-6)
        assert file["time"][0] == pytest.approx(0.15)
        assert np.allclose(file["velocities"], 1.25)
        assert np.allclose(file["forces"][0], made.forces)
        assert np.allclose(file["cell_lengths"], 0.526 * 1.03, atol=1e-5)


def test_mdtraj_opens_hdf5(ethanol, tmp_path):
    pytest.importorskip("tables", reason="mdtraj reads HDF5 with pytables, which is not installed")
    write_frames(tmp_path / "t.h5", ethanol, "hdf5", range(1, 4))
    loaded = mdtraj.load(str(tmp_path / "t.h5"))
    assert np.abs(loaded.xyz * 10 - positions_of(ethanol, range(1, 4))).max() < 1e-5
    assert loaded.topology.n_bonds == 8


def test_velocities_need_a_format_that_holds_them():
    with pytest.raises(ConfigError, match="dcd holds positions only: choose extxyz or hdf5 for velocities"):
        MDProtocol.of(write=("velocities",))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0, 40])
def test_a_trajectory_is_cut_and_continued(kind, cut, ethanol, tmp_path, capfd):
    if kind == "hdf5" and cut:
        pytest.skip("HDF5 files are written at flushes, as a whole")
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    for _ in range(2):  # a restart that is killed at once is followed by another
        open_trajectory(path, ethanol, protocol(kind), 7).close()
    write_frames(path, ethanol, kind, [20], keep=7)
    raw = read_trajectory(path)
    expected = positions_of(ethanol, [1, 2, 3, 4, 5, 6, 7, 20])
    assert raw.notes == ()
    assert np.abs(raw.positions - expected).max() < PRECISION[kind]
    assert capfd.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_frames_are_refused_and_the_file_stays(kind, ethanol, tmp_path):
    path = tmp_path / f"t.{kind}"
    write_frames(path, ethanol, kind, range(1, 13))
    with pytest.raises(RunDirectoryError, match="holds 12 frames, the restart needs 13"):
        open_trajectory(path, ethanol, protocol(kind), 13)
    assert len(read_trajectory(path).positions) == 12
    if kind != "hdf5":
        with pytest.raises(RunDirectoryError, match="holds 0 frames, the restart needs 3"):
            open_trajectory(tmp_path / f"missing.{kind}", ethanol, protocol(kind), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_flush_others_see_the_frames(kind, ethanol, tmp_path):
    path = tmp_path / f"t.{kind}"
    writer = open_trajectory(path, ethanol, protocol(kind))
    for number in range(12):
        writer.write(frame(number, ethanol))
    writer.flush()
    if kind == "hdf5":  # HDF5 locks the file within a process
        reader = "import sys; from pathlib import Path; from piwsl.md.analysis.trajectory_files import read_trajectory;"
        reader += "print(len(read_trajectory(Path(sys.argv[1])).positions))"
        said = subprocess.run(
            [sys.executable, "-c", reader, str(path)],
            capture_output=True,
            text=True,
            env={"HDF5_USE_FILE_LOCKING": "FALSE"},
        )
        assert said.stdout == "12\n", said.stderr
    else:
        assert len(read_trajectory(path).positions) == 12
    writer.close()


WRITER = """
import sys
from pathlib import Path
from ase.build import molecule
from tests.md.output.test_trajectories import frame, open_trajectory, protocol
writer = open_trajectory(Path(sys.argv[1]), molecule("CH3CH2OH"), protocol(sys.argv[2]), int(sys.argv[3]))
number = int(sys.argv[3])
while True:
    number += 1
    writer.write(frame(number, molecule("CH3CH2OH")))
    if number % 5 == 0:
        writer.flush()
        print(number, flush=True)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_leaves_what_it_flushed(kind, ethanol, tmp_path):
    path, kept = tmp_path / f"t.{kind}", 0
    for attempt in range(2):
        command = [sys.executable, "-c", WRITER, str(path), kind, str(kept)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            flushed = int(process.stdout.readline())
            time.sleep(0.01 * attempt)
            process.kill()
            rest = process.stdout.read().split()
        flushed = int(rest[-1]) if rest else flushed
        raw = read_trajectory(path)
        assert len(raw.positions) >= flushed
        expected = positions_of(ethanol, range(1, flushed + 1))
        assert np.abs(raw.positions[:flushed] - expected).max() < PRECISION[kind]
        kept = flushed


LIMITED = """
import resource, signal, sys
from pathlib import Path
from ase.build import molecule
from piwsl.errors import PiwslError
from tests.md.output.test_trajectories import frame, open_trajectory, protocol
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    writer = open_trajectory(Path(sys.argv[1]), molecule("CH3CH2OH"), protocol(sys.argv[2]))
    for number in range(1000):
        writer.write(frame(number, molecule("CH3CH2OH")))
        if number % 5 == 0:
            writer.flush()
except PiwslError as error:
    print(error)
    import os
    os._exit(2)
"""


def test_hdf5_looks_for_room_before_it_writes(ethanol, tmp_path, monkeypatch):
    """The library ends the process on a full disk."""
    path = tmp_path / "t.hdf5"
    writer = open_trajectory(path, ethanol, protocol("hdf5"))
    writer.write(frame(1, ethanol))
    writer.flush()
    writer.write(frame(2, ethanol))
    room = SimpleNamespace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: room)
    with pytest.raises(RunDirectoryError, match=r"t.hdf5: cannot be written \(no space left on device\)"):
        writer.flush()
    room.free = 10**9
    writer.close()
    assert len(read_trajectory(path).positions) == 1


@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz"])
def test_a_full_disk_is_one_line(kind, tmp_path):
    path = tmp_path / f"t.{kind}"
    said = subprocess.run([sys.executable, "-c", LIMITED, str(path), kind], capture_output=True, text=True)
    assert said.returncode == 2, said.stderr
    assert f"{path}: cannot be written (" in said.stdout
    assert "continue with --restart" in said.stdout
    assert len(read_trajectory(path).positions) > 5
