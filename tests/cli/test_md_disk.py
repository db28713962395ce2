"""`piwsl md` on a disk that takes no more."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from piwsl.analysis.run_directory import read_run
from tests.support.springs import springs_model


def limited(size: int):
    """What a process does to itself to write no file beyond a size."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dcd"])
def test_a_full_disk_ends_a_run_that_can_be_continued(kind, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("ethanol.xyz", molecule("CH3CH2OH"))
    springs_model(tmp_path / "model.pt", read("ethanol.xyz"))
    command = [sys.executable, "-m", "piwsl.cli", "md", "--structure", "ethanol.xyz", "--model", "model.pt"]
    command += ["--steps", "2000", "--trajectory-interval", "2", "--state-interval", "100", "--trajectory-format", kind]
    whole = subprocess.run([*command, "--output", "whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    size = Path(f"whole/trajectory.{kind}").stat().st_size
    stopped = subprocess.run(
        [*command, "--output", "cut"], preexec_fn=limited(size // 2), capture_output=True, text=True
    )
    assert stopped.returncode == 2, stopped.stderr
    (line,) = stopped.stderr.splitlines()
    assert line.startswith(f"piwsl: cut/trajectory.{kind}: cannot be written (")
    assert line.endswith("make room, then try again")
    assert 0 < len(read_run(Path("cut")).frames) < 1000
    again = subprocess.run([*command, "--output", "cut", "--restart"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    first, second = read_run(Path("whole")), read_run(Path("cut"))
    assert np.array_equal(first.frames.all(), second.frames.all())
