import struct

import pytest

from piwsl.trajectories.hdf5 import checksum, release

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


def test_known_hashes():
    """Values from the driver of Jenkins' lookup3.c."""
    assert checksum(b"") == 0xDEADBEEF
    assert checksum(b"Four score and seven years ago") == 0x17770551


def test_a_file_left_open_can_be_opened_again(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", (3,), "f4", maxshape=(None,), chunks=(2,))
        file.swmr_mode = True
        file["x"][:] = 1.5
        file.flush()
        left = path.read_bytes()  # as a kill leaves it
    assert checksum(left[:44]) == struct.unpack("<I", left[44:48])[0]
    path.write_bytes(left + bytes(1000))
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")
    assert release(path)
    assert not release(path)
    with h5py.File(path, "r+", libver="latest") as file:
        file["x"].resize(9, axis=0)
        file["x"][3:] = 2.5
    with h5py.File(path, "r") as file:
        assert file["x"][:].tolist() == [1.5] * 3 + [2.5] * 6


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10])
def test_no_hdf5_file(content, tmp_path):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(OSError, match="not an HDF5 file"):
        release(tmp_path / "a.h5")
