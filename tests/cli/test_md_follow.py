"""A run seen from outside while it goes."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import read, write

from piwsl.cli.md_follow import bars
from piwsl.errors import RunDirectoryError
from piwsl.md.progress import read_progress
from tests.support.springs import springs_model

PIWSL = [sys.executable, "-m", "piwsl.cli"]


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A run that goes on for some seconds."""
    monkeypatch.chdir(tmp_path)
    write("ethanol.xyz", molecule("CH3CH2OH"))
    springs_model(tmp_path / "model.pt", read("ethanol.xyz"))
    options = ["--structure", "ethanol.xyz", "--model", "model.pt", "--steps", "40000", "--output", "run"]
    options += ["--state-interval", "500", "--report-interval", "10"]
    with subprocess.Popen([*PIWSL, "md", *options], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not Path("run/thermo.csv").exists() or Path("run/thermo.csv").stat().st_size < 1000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        yield process
        process.kill()


@pytest.mark.slow
def test_a_run_is_followed_to_its_end(running):
    view = read_progress(Path("run"))
    assert not view.ended
    assert 0 < view.step < 40000
    assert view.silence is not None
    said = subprocess.run([*PIWSL, "md", "--follow", "run"], capture_output=True, text=True, check=True, timeout=60)
    assert running.wait(10) == 0
    lines = said.stdout.splitlines()
    assert lines[-1].startswith("step 40000 of 40000 (20 ps), ")
    assert lines[-1].endswith(" K, completed")
    assert len(lines) > 1
    assert "\x1b" not in said.stdout
    assert read_progress(Path("run")).ended


@pytest.mark.slow
def test_on_a_terminal_there_are_bars(running):
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([*PIWSL, "md", "--follow", "run"], stdout=follower, env=environment) as watcher:
        os.close(follower)
        shown = b""
        while watcher.poll() is None or shown.count(b"completed") == 0:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # the terminal is gone
                break
        assert watcher.wait(30) == 0
    os.close(leader)
    text = shown.decode()
    assert "ethanol, nvt-langevin, openmm: run" in text
    assert "temperature [K]" in text
    assert any(bar in text for bar in "▂▃▄▅▆▇")
    assert "completed" in text


def test_bars_go_from_the_lowest_to_the_highest():
    assert bars([1, 2, 3, 8]) == "▁▂▃█"
    assert bars([2, 2]) == "▁▁"


@pytest.mark.slow
def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"holds no summary\.json"):
        read_progress(tmp_path)
    followed = subprocess.run([*PIWSL, "md", "--follow", str(tmp_path)], capture_output=True, text=True)
    assert followed.returncode == 2
    assert followed.stderr == (
        f"piwsl: {tmp_path}: holds no summary.json: it is not the directory of a molecular dynamics run\n"
    )
