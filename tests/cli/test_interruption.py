"""Signals before a run has started: exit code 130, one line, and no temporary files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")

INTERRUPTED = """
import os, signal, time
from piwsl.runs.scratch import scratch_directory

with scratch_directory("test"):
    {change}
    os.kill(os.getpid(), signal.{name})
    time.sleep(20)
"""


def interrupted(folder: Path, name: str, change: str = "") -> "subprocess.CompletedProcess[str]":
    """Import a module that sends a signal to its process while a temporary directory exists."""
    (folder / "temporary").mkdir()
    (folder / "interrupted.py").write_text(INTERRUPTED.format(name=name, change=change))
    variables = {**os.environ, "TMPDIR": str(folder / "temporary")}
    variables["PYTHONPATH"] = os.pathsep.join([str(folder), os.getcwd(), variables.get("PYTHONPATH", "")])
    line = [sys.executable, "-m", "piwsl", "--import", "interrupted", "doctor"]
    return subprocess.run(
        line, env=variables, capture_output=True, text=True, cwd=folder, timeout=120, preexec_fn=_hear_signals
    )


def _hear_signals() -> None:
    """Undo what `nohup` and `&` did to the tests: the child would inherit it, and ignore the signal as it should."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_at_the_start_leaves_no_temporary_files(name, tmp_path: Path):
    done = interrupted(tmp_path, name)
    assert (done.returncode, done.stderr) == (130, "piwsl: interrupted\n")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_a_second_signal_leaves_no_temporary_files(tmp_path: Path):
    change = "import shutil; remove = shutil.rmtree; import piwsl.runs.scratch as scratch; "
    change += "scratch.rmtree = lambda *a, **k: (os.kill(os.getpid(), signal.SIGTERM), remove(*a, **k))"
    done = interrupted(tmp_path, "SIGTERM", change)
    assert (done.returncode, done.stderr) == (130, "piwsl: interrupted\n")
    assert not list((tmp_path / "temporary").iterdir())
