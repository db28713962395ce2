import numpy as np
import pytest
from ase.build import molecule

from piwsl.errors import DataError
from piwsl.trajectories.files import read_topology, read_trajectory

BENZENE = molecule("C6H6")  # XTC compresses frames of more than nine atoms, and only those


@pytest.fixture(params=["ethanol", "benzene"])
def xtc(request, runs, tmp_path):
    atoms = runs.ETHANOL if request.param == "ethanol" else BENZENE
    positions = runs.shaking(30, seed=1, atoms=atoms)
    runs.write_trajectory(tmp_path / "t.xtc", positions, atoms.numbers)
    return tmp_path / "t.xtc", positions


def test_xtc(xtc):
    path, positions = xtc
    raw = read_trajectory(path)
    np.testing.assert_allclose(raw.positions, positions, atol=0.0051)
    np.testing.assert_allclose(raw.times, 1000.0 * np.arange(30))  # ps of the file, in fs
    assert raw.notes == ()


@pytest.mark.parametrize("missing", [1, 30, 60])
def test_cut_xtc_gives_its_whole_frames_and_says_so(xtc, missing, capfd):
    path, positions = xtc
    path.write_bytes(path.read_bytes()[:-missing])
    raw = read_trajectory(path)
    np.testing.assert_allclose(raw.positions, positions[:29], atol=0.0051)
    assert raw.notes == ("t.xtc is truncated within frame 30: its 29 complete frames are used",)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("content", "message"), [(b"", "no complete frame"), (b"nonsense" * 20, "not an XTC file")])
def test_no_xtc(tmp_path, content, message):
    (tmp_path / "t.xtc").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_trajectory(tmp_path / "t.xtc")


def test_pdb_with_many_models(runs, tmp_path):
    positions = runs.shaking(5, seed=2)
    runs.write_trajectory(tmp_path / "t.pdb", positions)
    np.testing.assert_allclose(read_trajectory(tmp_path / "t.pdb").positions, positions, atol=0.002)
    assert read_topology(tmp_path / "t.pdb").tolist() == runs.ETHANOL.numbers.tolist()


def test_other_formats_through_mdtraj(runs, tmp_path):
    positions = runs.shaking(5, seed=3)
    trajectory = runs.write_trajectory(tmp_path / "t.trr", positions)
    trajectory[0].save_pdb(str(tmp_path / "top.pdb"))
    found = read_trajectory(tmp_path / "t.trr", tmp_path / "top.pdb")
    np.testing.assert_allclose(found.positions, positions, atol=1e-4)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_trajectory(tmp_path / "none.dcd")
    with pytest.raises(DataError, match="no such file"):
        read_topology(tmp_path / "none.pdb")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # mdtraj leaves the file open
def test_not_a_topology(tmp_path):
    (tmp_path / "top.pdb").write_text("hello\n")
    with pytest.raises(DataError, match=r"top\.pdb"):
        read_topology(tmp_path / "top.pdb")
