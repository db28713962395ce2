import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from piwsl.errors import RunDirectoryError, SystemFailureError, printable, shortened, system_errors
from piwsl.runs.files import atomic_path, check_unused, read_json_object, sha256, write_text, writing
from piwsl.runs.scratch import scratch_directory, temporary_directory
from tests.support.limits import limited_files


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


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with (
        limited_files(10),
        pytest.raises(RunDirectoryError, match=r"a\.txt: cannot be written \(File too large\): make"),
    ):
        write_text(tmp_path / "a.txt", "more than ten characters")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(RunDirectoryError, match=r"a/b\.txt: cannot be written \((Not a directory|File exists)\)"):
        write_text(tmp_path / "a" / "b.txt", "text")


def test_a_folder_that_is_read_only_is_one_line(tmp_path, monkeypatch):
    def read_only(prefix, suffix, dir):
        raise OSError(errno.EROFS, "Read-only file system", f"{dir}/{prefix}abcdefgh{suffix}")

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)  # the user of the tests may be one who can write anywhere
    message = rf"^{tmp_path}/x.h5: cannot be written \(Read-only file system\): make it writable, then try again$"
    with pytest.raises(RunDirectoryError, match=message), atomic_path(tmp_path / "x.h5"):
        pass


def test_a_failure_of_another_file_is_not_blamed_on_the_one_that_is_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "elsewhere" / "b.txt").read_text()


KILLED = """
import sys, time
from pathlib import Path
from piwsl.runs.files import atomic_path
from piwsl.runs.scratch import scratch_directory
with scratch_directory("test"), atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing `a.txt`, and the folder for its temporary files."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(scratch)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        yield process, scratch
        process.kill()


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_temporaries_of_a_killed_process_are_removed_by_the_next(writer, tmp_path, monkeypatch):
    process, scratch = writer
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(hidden(tmp_path)) == 1
    write_text(tmp_path / "b.txt", "of another name: not its business")
    assert len(hidden(tmp_path)) == 1
    write_text(tmp_path / "a.txt", "whole")
    assert not hidden(tmp_path)
    with scratch_directory("other"):
        assert len(list(scratch.iterdir())) == 2
    with scratch_directory("test"):
        pass
    assert not list(scratch.iterdir())


def test_temporaries_of_a_living_process_stay(writer, tmp_path, monkeypatch):
    _, scratch = writer
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write_text(tmp_path / "a.txt", "by somebody else at the same time")
    with scratch_directory("test"):
        pass
    assert len(hidden(tmp_path)) == 1
    assert len(list(scratch.iterdir())) == 1


def test_what_is_not_ours_stays(tmp_path):
    names = [".a.txt.abcdefgh.tmp", ".a.txt.ABCDEFGH.tmp", ".a.txt.notes"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("without a lock")
    (tmp_path / ".a.txt.aaaaaaaa.tmp").write_text("a file")
    write_text(tmp_path / "a.txt", "text")
    assert len(hidden(tmp_path)) == 4


def test_an_empty_temporary_that_was_never_locked_goes_when_it_is_old(tmp_path):
    young, old = tmp_path / ".a.aaaaaaaa.tmp", tmp_path / ".a.bbbbbbbb.tmp"
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    write_text(tmp_path / "a", "text")
    assert hidden(tmp_path) == [young]


def test_a_temporary_directory_is_private(tmp_path):
    with temporary_directory(tmp_path, "a") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_no_room_for_temporary_files_names_their_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(RunDirectoryError, match=r"file.*: temporary files cannot be written .*set TMPDIR"):
        scratch_directory("test").__enter__()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: No space left on device: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "the operating system: Input/output error"),
    ],
)
def test_what_nothing_else_explains_is_one_line_at_the_boundary(error, text):
    @system_errors()
    def verb():
        raise error

    with pytest.raises(SystemFailureError) as caught:
        verb()
    assert str(caught.value).startswith(text)


def test_a_library_that_reports_a_full_disk_in_words(tmp_path):
    with pytest.raises(RunDirectoryError, match="make room"), writing(tmp_path / "a", (ValueError,)):
        raise ValueError("database or disk is full")


@pytest.mark.parametrize("content", ["[1]", "{", '"text"', "[" * 5000, "{\x00}", '{"a": ' + "1" * 5000 + "}"])
def test_json_that_is_no_object_is_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"a\.json (is not valid|contains no) JSON"):
        read_json_object(tmp_path / "a.json")


def test_json_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("{}" + " " * 100)
    with pytest.raises(RunDirectoryError, match="damaged: larger than"):
        read_json_object(tmp_path / "a.json", largest=50)


def test_texts_of_others_in_messages():
    assert shortened("a" * 300) == "a" * 197 + "..."
    assert printable("red \x1b[31m") == r"red \x1b[31m"


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_is_never_replaced_by_a_file(force, tmp_path):
    with pytest.raises(RunDirectoryError, match=r"is a directory, not a file: choose another output$"):
        check_unused(tmp_path, "output", force)
    check_unused(tmp_path / "new.pt", "output", force)
