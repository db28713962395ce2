"""Replicas on the command line."""

import json
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.io import read

from piwsl.md.progress import Progress
from piwsl.md.restart import newest_states, state_files
from tests.cli.test_md import inputs, piwsl, start_in_background, wait_for_state
from tests.support.springs import springs_model

__all__ = ["inputs"]
NAMES = [f"replica-{number:03d}" for number in range(3)]


def frames(directory: Path):
    return mdtraj.load(str(directory / "trajectory.dcd"), top=str(directory / "topology.pdb")).xyz


@pytest.mark.slow
def test_what_is_said(inputs, capsys):
    arguments = [*inputs, "--replicas", "3", "--steps", "200", "--output", "run"]
    code, out, _ = piwsl(capsys, "md", *arguments, "--dry-run")
    assert (code, Path("run").exists()) == (0, False)
    assert "engine      native, force torch" in out
    assert "protocol    3 replicas, each 200 steps" in out
    assert "ns/day in total" in out
    code, out, _ = piwsl(capsys, "md", *arguments)
    assert code == 0
    assert "3 of 3 replicas completed 0.1 ps" in out
    code, out, _ = piwsl(capsys, "md", "--follow", "run")
    assert (code, "completed" in out) == (0, True)
    code, _, errors = piwsl(capsys, "md", "--restart", "--output", "run/replica-001")
    assert (code, errors) == (
        2,
        ["piwsl: run/replica-001: holds one replica of the run in run: restart that run instead"],
    )
    code, out, _ = piwsl(capsys, "md", "--restart", "--output", "run", "--steps", "300")
    assert (code, "continued from step 200 to 300" in out) == (0, True)


def test_progress_in_words():
    known = Progress(10, 100, 50.0, 6.5, 301.2, 2.0, replicas=3)
    assert known.text() == "50 steps/s of 3 replicas, 6.50 ns/day, 301 K, 0:00:02 left"
    elsewhere = Progress(10, 100, 50.0, 6.5, float("nan"), 2.0)
    assert elsewhere.text() == "50 steps/s, 6.50 ns/day, 0:00:02 left"


def test_those_that_leave_give_exit_code_3(inputs, capsys):
    springs_model(Path("torn.pt"), read("ethanol.xyz"), first_bond=-3.0)
    code, _, errors = piwsl(capsys, "md", *inputs[:3], "torn.pt", "--replicas", "3", "--output", "run")
    assert (code, len(errors)) == (3, 1)
    assert "3 of 3 replicas became unphysical (replica-00" in errors[0]


@pytest.mark.slow
def test_a_killed_run_continues_and_equals_one_that_was_not(inputs, capsys):
    settings = ["--replicas", "3", "--state-interval", "200", "--trajectory-interval", "20", "--seed", "3"]
    process = start_in_background(["md", *inputs, *settings, "--steps", "10000000", "--output", "killed"])
    wait_for_state(process, Path("killed/replica-002"), 600)
    process.kill()
    process.communicate()
    assert json.loads(Path("killed/summary.json").read_text())["result"] == "interrupted"
    last = newest_states({number: Path("killed") / name for number, name in enumerate(NAMES)})[0][0].step
    total = str(last + 400)
    code, _, errors = piwsl(capsys, "md", "--restart", "--output", "killed", "--steps", total)
    assert (code, errors) == (0, [])
    assert piwsl(capsys, "md", *inputs, *settings, "--steps", total, "--output", "whole")[0] == 0
    for name in NAMES:
        one, other = Path("killed") / name, Path("whole") / name
        assert np.array_equal(frames(one), frames(other))
        assert (one / "thermo.csv").read_text() == (other / "thermo.csv").read_text()
        assert [path.name for path in state_files(one)] == [path.name for path in state_files(other)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replicas", "2", "--scheduler", "tcp://127.0.0.1:9", "--dask-workers", "2"], "give only one of them"),
        (["--dask-workers", "2"], "a Dask cluster runs replicas only: add --replicas"),
        (["--replicas", "2", "--engine", "ase"], "engine ase does not run replicas: choose --engine native"),
        pytest.param(
            ["--replicas", "2", "--scheduler", "tcp://127.0.0.1:9"],
            "no Dask scheduler at tcp://127.0.0.1:9",
            marks=pytest.mark.slow,  # waits ten seconds for it
        ),
    ],
)
def test_bad_input_is_one_line(inputs, capsys, arguments, words):
    code, _, errors = piwsl(capsys, "md", *inputs, *arguments, "--output", "run")
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert not Path("run").exists()


@pytest.mark.cluster
def test_dask_workers_move_them(inputs, capsys):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    options = ["--replicas", "3", "--steps", "200"]
    code, out, _ = piwsl(capsys, "md", *inputs, *options, "--output", "run", "--dask-workers", "2")
    assert (code, "2 tasks with up to 2 replicas" in out) == (0, True)
    assert piwsl(capsys, "md", *inputs, *options, "--output", "here")[0] == 0
    for name in NAMES:
        assert np.array_equal(frames(Path("run") / name), frames(Path("here") / name))
