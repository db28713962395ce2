"""`piwsl data fetch` as a user calls it."""

import io
from hashlib import md5, sha256

import numpy as np
import pytest

from piwsl.data.datasets import DATASETS, Dataset, Protocol, RemoteFile, registry
from tests.support.http_server import Server, Site


def water():
    stream = io.BytesIO()
    np.savez(stream, z=np.array([8, 1, 1]), R=np.zeros((2, 3, 3)), E=np.zeros(2), F=np.zeros((2, 3, 3)))
    return stream.getvalue()


CONTENT = water()


@pytest.fixture
def site(monkeypatch):
    """A server with two frames of water, and a data set `test` that lies there."""
    with Server(Site(CONTENT)) as running:
        enter(monkeypatch, running.url(), f"md5:{md5(CONTENT).hexdigest()}")
        yield running


def enter(monkeypatch, url, checksum):
    file = RemoteFile("water.npz", (url,), "https://example.org/page", "test", checksum, len(CONTENT))
    record = Dataset(
        "test", "water", 2, "3", "kcal/mol, angstrom", "PBE", "Me (2026)", "10.1/1", None, file, Protocol(test=1)
    )
    monkeypatch.setitem(registry._BY_PLAIN_NAME, "test", record)


def test_list(cli):
    lines = cli("data", "fetch", "--list").out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(DATASETS)
    rmd17, md22, lmnto = (next(line for line in lines if name in line) for name in ("aspirin ", "DHA", "lmnto"))
    assert "100000   PBE/def2-SVP" in rmd17
    assert "154 MB   checksum " in rmd17
    assert "no checksum" in md22
    assert "by hand" in lmnto
    assert "doi:10.1038/s41524-020-0323-8" in lmnto
    assert lines[-1].endswith("The addresses have not been tested.")


def test_fetch(cli, site, tmp_path, monkeypatch):
    monkeypatch.setenv("PIWSL_DATA_DIR", str(tmp_path / "kept"))
    called = cli("data", "fetch", "test")
    assert called.code == 0
    assert called.out.splitlines() == [
        "test       water; 2 frames, PBE",
        f"file       {tmp_path / 'kept' / 'water.npz'}",
        f"checksum   md5:{md5(CONTENT).hexdigest()}, as published",
        "license    not stated; see https://example.org/page",
        "cite       Me (2026), https://doi.org/10.1/1",
        "train      piwsl train --data test -o data.test=1",
    ]
    assert called.errors == ["0.0 of 0.0 MB"]
    again = cli("data", "fetch", "test")
    assert again.out == called.out
    assert again.errors == []


def test_what_could_not_be_verified_is_said(cli, site, tmp_path, monkeypatch):
    enter(monkeypatch, site.url(), None)
    lines = cli("data", "fetch", "test", "--folder", tmp_path / "here").out.splitlines()
    digest = sha256(CONTENT).hexdigest()
    assert lines[2] == (
        f"checksum   none published; this copy could not be verified; sha256:{digest} is stored for later checks"
    )
    path = tmp_path / "here" / "water.npz"
    assert lines[-1] == f"train      piwsl train --data {path} --units 'kcal/mol, angstrom' -o data.test=1"
    assert cli("data", "inspect", path, "--units", "kcal/mol, angstrom").code == 0


def test_failures_are_one_line_and_exit_code_2(cli, site, tmp_path):
    site.content = CONTENT[::-1]
    called = cli("data", "fetch", "test", "--folder", tmp_path / "here")
    assert called.code == 2
    assert len(called.errors) == 2  # progress, error
    assert "wrong checksum" in called.errors[1]
    assert not (tmp_path / "here" / "water.npz").exists()
    site.status = 404
    called = cli("data", "fetch", "test", "--folder", tmp_path / "here")
    assert called.code == 2
    assert "404 Not Found" in called.errors[0]
    assert called.errors[0].startswith("piwsl: test: download failed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rmd17:water"], "use rmd17:NAME with one of aspirin"),
        (["lmnto"], "download it from https://doi.org/"),
        ([], "--list"),
    ],
)
def test_what_cannot_be_fetched(cli, tmp_path, arguments, message, monkeypatch):
    monkeypatch.setenv("PIWSL_DATA_DIR", str(tmp_path))
    called = cli("data", "fetch", *arguments)
    assert called.code == 2
    assert message in called.errors[-1]


def test_without_pooch(cli, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    called = cli("data", "fetch", "rmd17:aspirin")
    assert called.code == 2
    assert called.errors == [
        "piwsl: fetching a data set needs pooch, which is not installed: pip install 'piwsl[data]'"
    ]
