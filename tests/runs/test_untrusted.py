import zipfile
import zlib
from pathlib import Path

import pytest

from piwsl.errors import DataError, PiwslError
from piwsl.runs.untrusted import TooLargeError, check_archive, inflate, parse_json, reading, unreadable_hdf5


def test_whatever_a_library_raises_is_one_line():
    with pytest.raises(DataError, match=r"a\.bin: not readable \(list index out of range\)"), reading(Path("a.bin")):
        raise IndexError("list index out of range")


def test_an_error_of_ours_stays_as_it_is():
    with pytest.raises(PiwslError, match=r"^mine$"), reading(Path("a.bin")):
        raise PiwslError("mine")


def test_a_zlib_bomb_is_refused_before_it_is_unpacked():
    bomb = zlib.compress(bytes(2**27), 1)
    with pytest.raises(TooLargeError, match="unpack to more than"):
        inflate(bomb)
    assert inflate(zlib.compress(b"text")) == b"text"
    with pytest.raises(zlib.error):
        inflate(zlib.compress(b"a longer text")[:-3])


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**27))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, pytest.raises(TooLargeError):
        check_archive(archive, (tmp_path / "a.zip").stat().st_size)


def test_deep_json_is_an_error_like_other_damage():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)


def test_hdf5_files_that_cannot_be_opened_are_one_line():
    killed = OSError("Unable to open file (file is already open for write/SWMR writing)")
    assert str(unreadable_hdf5("a.h5", killed)) == (
        "a.h5: is being truncated, or was left open by a killed run: resume that run first"
    )
    damaged = OSError("Unable to open file (file signature not found)")
    assert str(unreadable_hdf5("a.h5", damaged)).startswith("a.h5: not a readable HDF5 file, or truncated (Unable")
