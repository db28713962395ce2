"""Names of runs made in Python, often in temporary directories."""

import tempfile
from pathlib import Path

import pytest

import piwsl
from piwsl.analysis.names import RANDOM_NAME, named_groups, system_name
from piwsl.analysis.run_directory import read_run
from tests.support import made_up
from tests.support import run_directories as runs


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Make the temporary directory of Python one of this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return lambda: Path(tempfile.mkdtemp())


def names_of(paths):
    return [group.name for group in piwsl.analyze(paths, reference=made_up.reference(), progress=False).groups]


def test_random_names_are_recognized(temporary):
    assert all(RANDOM_NAME.fullmatch(temporary().name) for _ in range(20))
    assert not RANDOM_NAME.fullmatch("md-aspirin")


@pytest.mark.slow
def test_runs_in_temporary_directories_are_named_after_their_system(temporary):
    paths = [temporary() / "run", temporary(), temporary()]
    for seed, path in enumerate(paths):
        if path.exists():
            path.rmdir()
        runs.write_run(path, runs.shaking(60, seed=seed))
    assert names_of(paths[:1]) == ["run"]
    assert names_of(paths[1:2]) == ["ethanol"]
    assert names_of(paths) == ["run", "ethanol 1", "ethanol 2"]


def test_equal_names_in_temporary_directories_are_numbered(temporary):
    paths = [runs.write_run(temporary() / "md", runs.shaking(60, seed=seed)) for seed in (1, 2)]
    assert names_of(paths) == ["md 1", "md 2"]


def test_other_directories_keep_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    group = made_up.single(tmp_path / "tmpabcdefgh")
    assert named_groups([group], [tmp_path / "tmpabcdefgh"])[0].name == "tmpabcdefgh"


@pytest.mark.parametrize("name", ["", " ", "structure", "tmpk3j_d81x"])
def test_a_system_without_a_name_is_called_by_its_formula(tmp_path, name):
    system = {"name": name, "formula": "C2H6O", "species": runs.ETHANOL.numbers.tolist()}
    assert system_name(read_run(runs.write_run(tmp_path / "run", runs.shaking(5, seed=1), system=system))) == "C2H6O"
