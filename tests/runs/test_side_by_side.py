"""Long tasks side by side: results, errors, deaths, and interruptions."""

import os
import time

import pytest

from piwsl.errors import ConfigError, PiwslError
from piwsl.runs.side_by_side import run_side_by_side


def write(path, pause=0.0):
    time.sleep(pause)
    path.write_text(os.environ["OMP_NUM_THREADS"])


def fail(path):
    raise ConfigError(f"cannot write {path}")


def die(path):
    os._exit(9)


def interrupt(path):
    raise KeyboardInterrupt


def choose(kind, path, pause=0.0):
    {"write": write, "fail": fail, "die": die}[kind](*([path, pause] if kind == "write" else [path]))


def test_all_tasks_are_done_in_processes_with_one_thread(tmp_path):
    files = [tmp_path / str(index) for index in range(3)]
    run_side_by_side(write, [(file,) for file in files], workers=2)
    assert [file.read_text() for file in files] == ["1", "1", "1"]


@pytest.mark.parametrize(("kind", "error"), [("fail", ConfigError), ("die", PiwslError)])
def test_a_failure_ends_the_other_tasks(tmp_path, kind, error):
    began = time.monotonic()
    with pytest.raises(error, match=r"cannot write|a process died"):
        run_side_by_side(choose, [("write", tmp_path / "late", 60.0), (kind, tmp_path / "x")], workers=2)
    assert time.monotonic() - began < 30
    assert not (tmp_path / "late").exists()


def test_an_interruption_ends_all_tasks(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(write, [(tmp_path / "late", 60.0)], workers=1, waiting=interrupt)
    assert time.monotonic() - began < 30


def test_an_interrupted_task_prints_no_traceback(tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(interrupt, [(tmp_path,)], workers=1)
    assert capfd.readouterr().err == ""
