"""Downloads from a real HTTP server, with the faults that servers have."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from hashlib import md5, sha256

import numpy as np
import pytest

from piwsl.data.datasets import Dataset, RemoteFile, data_folder, fetch, recorded_sha256, registry
from piwsl.data.datasets.download import BrokenDownload, Downloader
from piwsl.data.read import dataset_frames
from piwsl.errors import DataError
from piwsl.units import KCAL_PER_MOL
from tests.support.http_server import Server, Site

CONTENT = np.random.default_rng(0).bytes(200_000)
MD5 = f"md5:{md5(CONTENT).hexdigest()}"


@pytest.fixture
def site():
    with Server(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def register(monkeypatch):
    """Make a data set `test` whose file lies at these addresses."""

    def enter(*urls, name="file.bin", **options):
        file = RemoteFile(name=name, urls=urls, page="https://example.org/test", source="test", **options)
        record = Dataset("test", "water", 4, "3", "kcal/mol, angstrom", "PBE", "Me (2026)", "10.1/1", "CC0", file)
        monkeypatch.setitem(registry._BY_PLAIN_NAME, "test", record)
        return record

    return enter


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_whole_download(site, register, tmp_path):
    register(site.url(), checksum=MD5, size=len(CONTENT))
    seen = []
    path = fetch("test", tmp_path / "new", lambda *a: seen.append(a))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["file.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch("test", tmp_path / "new") == path
    assert len(site.asked) == 1  # the second time nothing is asked


def test_a_cut_connection_goes_on_where_it_was(site, register, tmp_path):
    site.cuts = [80_000, 40_000]
    register(site.url(), checksum=MD5)
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    assert site.asked[0] is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in site.asked[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 81_920 < starts[1] <= 122_880


def test_a_later_call_goes_on_after_a_stop(site, register, tmp_path):
    site.cuts = [80_000, 0]  # then no byte more: the call gives up
    register(site.url(), checksum=MD5)
    with pytest.raises(DataError, match=r"was interrupted after 0\.1 of 0\.2 MB; the next attempt resumes there"):
        fetch("test", tmp_path)
    assert not (tmp_path / "file.bin").exists()
    site.asked.clear()
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 1
    assert site.asked[0].startswith("bytes=")
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.slow
def test_a_killed_download_goes_on(site, register, tmp_path):
    site.pause = 0.02
    script = (
        "import sys; from pathlib import Path; from piwsl.data.datasets.download import Downloader\n"
        "Downloader(Path(sys.argv[2]) / 'file.bin.part')(sys.argv[1], str(Path(sys.argv[2]) / 'never'))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, site.url(), str(tmp_path)])
    part = tmp_path / "file.bin.part"
    while process.poll() is None and (not part.exists() or part.stat().st_size == 0):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < part.stat().st_size < len(CONTENT)
    site.pause = 0.0
    site.asked.clear()
    register(site.url(), checksum=MD5)
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    assert site.asked[0].startswith("bytes=")


def test_a_server_without_ranges_begins_anew(site, register, tmp_path):
    site.ranges, site.cuts = False, [80_000]
    register(site.url(), checksum=MD5)
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_file_that_changed_meanwhile_is_not_mixed(site, register, tmp_path):
    site.cuts = [80_000, 0]
    register(site.url())
    with pytest.raises(DataError):
        fetch("test", tmp_path)
    site.content, site.etag = CONTENT[::-1], '"second"'
    assert fetch("test", tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("content", [CONTENT[:50_000], CONTENT[::-1] + b"more"])
def test_without_a_validator_the_length_decides(site, register, tmp_path, content):
    site.cuts, site.etag = [80_000, 0], None
    register(site.url())
    with pytest.raises(DataError):
        fetch("test", tmp_path)
    site.content = content  # shorter than what is here: 416; longer: another length
    assert fetch("test", tmp_path).read_bytes() == content


def test_without_a_length_half_a_file_is_never_kept(site, register, tmp_path):
    site.announce = False
    register(site.url(), checksum=MD5)
    assert fetch("test", tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_removed(site, register, tmp_path):
    register(site.url(), checksum=MD5)
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(DataError, match=r"wrong checksum.*removed"):
        fetch("test", tmp_path)
    assert names(tmp_path) == []
    site.content = CONTENT
    assert fetch("test", tmp_path).read_bytes() == CONTENT


def test_a_damaged_copy_is_removed_and_fetched_again(site, register, tmp_path, caplog):
    register(site.url(), checksum=MD5)
    fetch("test", tmp_path).write_bytes(b"damaged")
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    assert "wrong checksum" in caplog.text
    (tmp_path / "file.bin").write_bytes(b"damaged")
    site.status = 500
    with pytest.raises(DataError):
        fetch("test", tmp_path)
    assert names(tmp_path) == []


def test_the_next_address_is_tried(site, register, tmp_path):
    with Server(Site(b"something else")) as wrong, Server(Site(status=404)) as gone:
        register(gone.url(), wrong.url(), site.url(), checksum=MD5)
        assert fetch("test", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 404}, "127.0.0.1:PORT returned 404 Not Found"),
        ({"status": 202}, "returned 202 Accepted"),  # a riddle for browsers
        ({"status": 503}, "returned 503 Service Unavailable"),
        ({"content_type": "text/html; charset=utf-8"}, "a web page instead of the file"),
    ],
)
def test_what_servers_answer(site, register, tmp_path, fault, message):
    register(site.url(), checksum=MD5)
    for key, value in fault.items():
        setattr(site, key, value)
    with pytest.raises(DataError) as error:
        fetch("test", tmp_path)
    assert message.replace("PORT", str(site.port)) in str(error.value)
    assert str(error.value).startswith("test: download failed: ")
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_no_server(register, tmp_path):
    with Server(Site()) as gone:
        pass
    register(gone.url(), "http://no-such-host.invalid/file")
    with pytest.raises(
        DataError, match=r"refused the connection; no-such-host\.invalid cannot be reached: its name cannot"
    ):
        fetch("test", tmp_path)


def test_a_silent_server(site, tmp_path):
    site.pause = 1.0
    download = Downloader(tmp_path / "file.bin.part", timeout=0.2)
    with pytest.raises(BrokenDownload, match=r"did not respond|was interrupted after"):
        download(site.url(), str(tmp_path / "file.bin"))
    assert not (tmp_path / "file.bin").exists()


def test_the_first_copy_counts_where_no_checksum_is_published(site, register, tmp_path):
    register(site.url())
    path = fetch("test", tmp_path)
    digest = sha256(CONTENT).hexdigest()
    assert recorded_sha256("test", tmp_path) == digest
    assert (tmp_path / "file.bin.sha256").read_text() == f"{digest}  file.bin\n"  # as sha256sum -c reads it
    path.write_bytes(b"damaged")
    assert fetch("test", tmp_path).read_bytes() == CONTENT
    path.unlink()
    site.content = CONTENT[::-1]
    with pytest.raises(
        DataError, match=r"wrong checksum.*if the publisher has changed the file, remove .*file\.bin\.sha256"
    ):
        fetch("test", tmp_path)


def test_a_full_disk(site, register, tmp_path, monkeypatch):
    register(site.url(), checksum=MD5, size=len(CONTENT))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    # A disk cannot be filled here, and `fetch` makes its downloader: an argument for it would serve this test alone.
    with monkeypatch.context() as patch:
        patch.setattr("piwsl.data.datasets.download.Downloader._append", full)
        with pytest.raises(DataError, match=r"the disk of .* is full"):
            fetch("test", tmp_path)
    assert fetch("test", tmp_path).read_bytes() == CONTENT


def test_too_little_space_is_said_before(site, register, tmp_path, monkeypatch):
    register(site.url(), checksum=MD5, size=len(CONTENT))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"0 MB are missing.*PIWSL_DATA_DIR"):
        fetch("test", tmp_path)
    assert not site.asked


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(site, register, tmp_path):
    register(site.url(), checksum=MD5)
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        fetch("test", tmp_path / "new")


def test_other_errors_of_the_disk(site, register, tmp_path):
    register(site.url(), checksum=MD5)
    (tmp_path / "new").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written") as error:
        fetch("test", tmp_path / "new")
    assert os.strerror(errno.EEXIST) in str(error.value) or os.strerror(errno.ENOTDIR) in str(error.value)


def test_several_processes_download_once(site, register, tmp_path):
    site.pause = 0.002
    register(site.url(), checksum=MD5)
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch("test", tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in found] == [True] * 3
    assert len(site.asked) == 1


def packed(kind, files):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode="w:bz2") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "name"), [("zip", "a.zip"), ("tar", "a.tar.bz2")])
def test_files_come_out_of_an_archive(site, register, tmp_path, kind, name):
    files = {
        "set/xsf/1.xsf": b"one",
        "set/xsf/2.xsf": b"two",
        "../../xsf/3.xsf": b"three",
        "__MACOSX/set/xsf/1.xsf": b"no",
        "set/readme": b"no",
    }
    site.content = packed(kind, files)
    register(site.url(), name=name, members=("*/xsf/*.xsf",))
    folder = fetch("test", tmp_path / "data")
    assert folder == tmp_path / "data" / "test"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "1.xsf": b"one", "2.xsf": b"two", "3.xsf": b"three"
    }  # fmt: skip
    assert names(tmp_path) == ["data"]  # nothing beside the folder
    (folder / "1.xsf").unlink()
    folder.rename(tmp_path / "gone")
    assert len(list(fetch("test", tmp_path / "data").iterdir())) == 3  # taken out again, not downloaded again
    assert len(site.asked) == 1


@pytest.mark.parametrize(("kind", "name"), [("zip", "a.zip"), ("tar", "a.tar.bz2")])
def test_a_damaged_archive_is_removed(site, register, tmp_path, kind, name):
    content = packed(kind, {"a/1.xsf": CONTENT})
    site.content = content[:5000] + bytes(5000) + content[10_000:]
    register(site.url(), name=name, members=("*.xsf",))
    with pytest.raises(DataError, match=r"damaged archive.*removed; fetch it again"):
        fetch("test", tmp_path)
    assert names(tmp_path) == []  # no SHA-256 of a damaged file is kept either


def test_an_archive_without_the_files(site, register, tmp_path):
    site.content = packed("zip", {"a/readme": b""})
    register(site.url(), name="a.zip", members=("*.xsf",))
    with pytest.raises(DataError, match="contains no file that matches"):
        fetch("test", tmp_path)


def water():
    rng = np.random.default_rng(1)
    return {
        "z": np.array([8, 1, 1]),
        "R": rng.normal(size=(4, 3, 3)),
        "E": rng.normal(size=(4, 1)),
        "F": rng.normal(size=(4, 3, 3)),
    }


def test_frames_are_read_with_the_units_of_the_set(site, register, tmp_path, monkeypatch):
    stream = io.BytesIO()
    np.savez(stream, **water())
    site.content = stream.getvalue()
    register(site.url(), name="water.npz")
    monkeypatch.setenv("PIWSL_DATA_DIR", str(tmp_path))
    assert data_folder() == tmp_path
    frames = dataset_frames("test")
    assert len(frames) == 4
    assert frames[2].energy == pytest.approx(water()["E"][2, 0] * KCAL_PER_MOL)
    assert str(frames.source) == "test"
    assert any("no checksum of water.npz is published" in note for note in frames.notes)


XSF = """# total energy = {energy} eV

CRYSTAL
PRIMVEC
    3.0 0.0 0.0
    0.0 3.0 0.0
    0.0 0.0 3.0
PRIMCOORD
2 1
Ti 0.0 0.0 0.0 0.1 0.0 0.0
O 1.5 1.5 1.5 -0.1 0.0 0.0
"""


def test_frames_of_an_archive(site, register, tmp_path):
    site.content = packed("tar", {f"a/xsf/{n}.xsf": XSF.format(energy=-2000 - n).encode() for n in (2, 1)})
    record = register(site.url(), name="a.tar.bz2", members=("*/xsf/*.xsf",))
    registry._BY_PLAIN_NAME["test"] = replace(record, units="eV, angstrom")
    frames = dataset_frames("test", tmp_path)
    assert [found.energy for found in frames] == [-2001.0, -2002.0]
    assert frames[0].pbc == (True, True, True)
    assert frames[0].forces[1, 0] == -0.1


def test_a_damaged_npz_without_a_checksum_is_removed(site, register, tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, **{**water(), "R": np.random.default_rng(0).normal(size=(999, 3, 3))})
    content = bytearray(stream.getvalue())
    content[2000:2100] = bytes(100)
    site.content = bytes(content)
    register(site.url(), name="water.npz")
    with pytest.raises(DataError, match=r"damaged file.*removed; fetch it again"):
        fetch("test", tmp_path)
    assert names(tmp_path) == []


def test_a_set_without_an_address_is_placed_by_hand(register, tmp_path):
    record = register(name="by-hand")
    assert record.file.state == "by hand"
    with pytest.raises(DataError, match=r"download it from https://example\.org/test and save it as .*by-hand"):
        fetch("test", tmp_path)
    (tmp_path / "by-hand").mkdir()
    with pytest.raises(DataError):
        fetch("test", tmp_path)
    (tmp_path / "by-hand" / "1.xsf").write_text("")
    assert fetch("test", tmp_path) == tmp_path / "by-hand"


def test_states():
    file = RemoteFile("a", ("https://a",), "https://a", "test")
    assert file.state == "no checksum"
    assert replace(file, checksum="md5:0").state == "checksum"
