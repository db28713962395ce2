import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from piwsl.errors import RunDirectoryError
from piwsl.md import run as md_run
from piwsl.md.run import run_md
from piwsl.md.run_directory import lock_files
from piwsl.runs.directory import DirectoryKind, RunDirectory, locked
from piwsl.runs.summary import MDSummary
from piwsl.training.directory import stored_config

HOLD = """
import sys, time
from pathlib import Path
from piwsl.runs.directory import locked
with locked(Path(sys.argv[1]), sys.argv[2:] or [".lock"]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holding():
    """Processes that hold locks."""
    processes = []

    def start(directory: Path, *names: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(directory), *names]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_until_the_first_dies(holding, tmp_path):
    process = holding(tmp_path)
    with pytest.raises(RunDirectoryError, match="another process is using this directory"), locked(tmp_path):
        pass
    with locked(tmp_path, lock_files([0, 1])):
        pass  # replicas have locks of their own
    process.send_signal(signal.SIGKILL)
    with locked(tmp_path, patience=10):
        pass


def test_replicas_are_locked_one_by_one(holding, tmp_path):
    holding(tmp_path, *lock_files([3, 4]))
    with locked(tmp_path, lock_files([0, 1, 2])):
        pass
    with pytest.raises(RunDirectoryError, match="another process"), locked(tmp_path, lock_files([2, 3])):
        pass
    with locked(tmp_path, lock_files([2])):
        pass


def test_a_directory_that_cannot_be_written_is_named_with_advice(tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "run"
    with pytest.raises(RunDirectoryError, match=r"\): make it writable, or choose another output=DIRECTORY"):
        RunDirectory(place, DirectoryKind("a job", ())).create()
    with pytest.raises(RunDirectoryError, match=r"run: cannot be written \(.*\): .*, then try again"), locked(place):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "trajectory.dcd"])
def test_a_pipe_in_a_run_directory_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    message = f"{name}: neither a regular file nor a directory: remove it"
    with pytest.raises(RunDirectoryError, match=message):
        run_md(output=tmp_path, restart=True)
    with pytest.raises(RunDirectoryError, match=message):
        stored_config(tmp_path)


def test_a_run_that_another_process_made_during_the_preparation_is_kept(ethanol, make_model, monkeypatch, tmp_path):
    model, prepare = make_model(ethanol), md_run._job

    def prepared(*arguments):
        monkeypatch.setattr(md_run, "_job", prepare)
        run_md(ethanol, model, output=tmp_path / "run", steps=20, progress=False)
        return prepare(*arguments)

    monkeypatch.setattr(md_run, "_job", prepared)
    with pytest.raises(RunDirectoryError, match="already holds a molecular dynamics run"):
        run_md(ethanol, model, output=tmp_path / "run", steps=40, progress=False)
    assert MDSummary.read(tmp_path / "run").steps_done == 20


def test_a_run_that_another_process_continued_during_the_preparation_is_kept(
    ethanol, make_model, monkeypatch, tmp_path
):
    model, prepare = make_model(ethanol), md_run._job

    def prepared(*arguments):
        monkeypatch.setattr(md_run, "_job", prepare)
        run_md(ethanol, model, output=tmp_path / "run", steps=40, restart=True, progress=False)
        return prepare(*arguments)

    run_md(ethanol, model, output=tmp_path / "run", steps=20, progress=False)
    monkeypatch.setattr(md_run, "_job", prepared)
    with pytest.raises(RunDirectoryError, match="another process continued this run in the meantime"):
        run_md(ethanol, model, output=tmp_path / "run", steps=60, restart=True, progress=False)
    assert MDSummary.read(tmp_path / "run").steps_done == 40
