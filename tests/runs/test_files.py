import hashlib

import pytest

from piwsl.runs.files import atomic_path, sha256, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError):
        _half_written(target)
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def _half_written(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        _ = 1 / 0


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"piwsl")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"piwsl").hexdigest()
