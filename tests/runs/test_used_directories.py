"""Directories of jobs that ended before they began, and directories that another process used in the meantime."""

from pathlib import Path

import pytest

from piwsl.errors import RunDirectoryError
from piwsl.runs.directory import DirectoryKind, RunDirectory

KIND = DirectoryKind(job="a test", marks=("plan.json",), log="test.log", early=("config.yaml",))


@pytest.mark.parametrize("names", [[], [".lock"], ["test.log"], ["test.log", "config.yaml", ".config.yaml.x.tmp"]])
def test_a_job_that_ended_before_it_began_does_not_occupy_its_directory(names: list[str], tmp_path: Path):
    for name in names:
        (tmp_path / name).touch()
    RunDirectory(tmp_path, KIND).check_free()


@pytest.mark.parametrize("names", [["config.yaml"], ["test.log", "notes.txt"], ["notes.txt"]])
def test_files_of_the_user_occupy_a_directory(names: list[str], tmp_path: Path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(RunDirectoryError, match="is not empty and holds no test"):
        RunDirectory(tmp_path, KIND).check_free()


def test_a_job_that_has_begun_occupies_its_directory(tmp_path: Path):
    for name in ("test.log", "config.yaml", "plan.json"):
        (tmp_path / name).touch()
    with pytest.raises(RunDirectoryError, match="already holds a test"):
        RunDirectory(tmp_path, KIND).check_free()
