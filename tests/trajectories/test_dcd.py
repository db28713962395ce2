import mdtraj
import numpy as np
import pytest

from piwsl.errors import DataError
from piwsl.trajectories.dcd import DcdFile, DcdWriter
from piwsl.trajectories.files import read_trajectory


@pytest.fixture
def positions(runs):
    return runs.shaking(25, seed=1).astype(np.float32)


@pytest.fixture
def dcd(runs, tmp_path, positions):
    runs.write_trajectory(tmp_path / "t.dcd", positions)
    return tmp_path / "t.dcd"


def test_equals_what_was_written_and_what_mdtraj_reads(runs, dcd, positions):
    raw = read_trajectory(dcd)
    np.testing.assert_allclose(raw.positions, positions, atol=1e-5)
    theirs = mdtraj.load_dcd(str(dcd), top=runs.topology_of(runs.ETHANOL.numbers))
    np.testing.assert_allclose(raw.positions, 10 * theirs.xyz, atol=1e-5)
    assert raw.positions.dtype == np.float32
    assert raw.times is None
    assert raw.notes == ()


def test_nothing_is_printed(dcd, capfd):
    read_trajectory(dcd)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("box", [None, (2.0, 2.0, 2.0)])
def test_reads_what_openmm_writes(tmp_path, positions, box):
    openmm = pytest.importorskip("openmm", reason="openmm is not installed")
    from openmm import app, unit

    topology = app.Topology()
    residue = topology.addResidue("UNL", topology.addChain())
    for index in range(9):
        topology.addAtom(f"C{index}", app.element.carbon, residue)
    if box:
        topology.setUnitCellDimensions(openmm.Vec3(*box) * unit.nanometer)
    with (tmp_path / "o.dcd").open("wb") as stream:
        file = app.DCDFile(stream, topology, 0.0005)
        for frame in positions:
            file.writeModel(frame.astype(float) * unit.angstrom)
    np.testing.assert_allclose(read_trajectory(tmp_path / "o.dcd").positions, positions, atol=1e-5)


@pytest.mark.parametrize("missing", [1, 100, 131])
def test_cut_file_gives_its_whole_frames_and_says_so(dcd, positions, missing):
    dcd.write_bytes(dcd.read_bytes()[:-missing])
    raw = read_trajectory(dcd)
    np.testing.assert_allclose(raw.positions, positions[:24], atol=1e-5)
    assert raw.notes == ("t.dcd is truncated within frame 25: its 24 complete frames are used",)


@pytest.mark.parametrize("size", [0, 3, 50, 100, 150])
def test_cut_header(dcd, size):
    dcd.write_bytes(dcd.read_bytes()[:size])
    with pytest.raises(DataError, match=r"t\.dcd: not a DCD file, or truncated within the header"):
        read_trajectory(dcd)


@pytest.mark.parametrize("rest", [0, 60])
def test_no_whole_frame(dcd, rest):
    dcd.write_bytes(dcd.read_bytes()[: DcdFile.open(dcd)._start + rest])
    with pytest.raises(DataError, match=r"t\.dcd: contains no complete frame"):
        read_trajectory(dcd)


def test_damaged_frames(dcd):
    content = bytearray(dcd.read_bytes())
    content[-4:] = b"\x07\x00\x00\x00"
    dcd.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged between frames 1 and 25"):
        read_trajectory(dcd)


def test_progress(dcd):
    told = []
    read_trajectory(dcd, progress=lambda done, total: told.append((done, total)))
    assert told == [(25, 25)]


def test_a_run_of_many_atoms_that_ends_before_its_first_frame(tmp_path):
    DcdWriter(tmp_path / "t.dcd", 100, False, 10, 0.5).close()
    with pytest.raises(DataError, match=r"t\.dcd: contains no complete frame: nothing can be analyzed"):
        read_trajectory(tmp_path / "t.dcd")
