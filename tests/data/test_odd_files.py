"""Paths that are no regular files: one line, without reading from a pipe or a device."""

import os
import socket
from pathlib import Path

import pytest

from piwsl.data.read import read_frames
from piwsl.data.structure_file import load_structure
from piwsl.errors import PiwslError, not_a_file
from piwsl.export.loading import is_trained, model_sha256
from piwsl.export.trained_file import load_trained

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")

SUFFIXES = ("", ".npz", ".h5", ".extxyz", ".xyz.gz", ".db", ".aselmdb", ".traj", ".pt")
READERS = {
    "frames": read_frames,
    "structure": load_structure,
    "kind of model": is_trained,
    "hash of model": model_sha256,
    "model": load_trained,
}


def make(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create an entry that is no regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif kind == "broken link":
        path.symlink_to("/nowhere/x.xyz")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "broken link"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_reader_opens_it(reader, kind, suffix, tmp_path: Path, monkeypatch):
    path = tmp_path / f"entry{suffix}"
    make(kind, path, monkeypatch)
    expected = "a link to /nowhere/x.xyz, which does not exist" if kind == "broken link" else "regular file"
    with pytest.raises(PiwslError, match=expected):
        READERS[reader](path)


def test_a_path_is_described(tmp_path: Path):
    assert not_a_file(tmp_path) == f"{tmp_path}: a directory, not a file"
    assert not_a_file(tmp_path / "x") == f"{tmp_path / 'x'}: no such file"


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PiwslError, match="is empty: pass a file"):
        read_frames("")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "/dev/null"])
def test_a_device_is_no_data_file(name):
    if not os.path.exists(name):
        pytest.skip(f"no {name}")
    with pytest.raises(PiwslError, match="neither a regular file nor a directory"):
        read_frames(name)
