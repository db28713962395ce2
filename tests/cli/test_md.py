import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from piwsl.cli.main import run
from piwsl.data.systems import named_system
from piwsl.md.restart import newest_states, state_files
from piwsl.md.stop.rules import RULES
from piwsl.trajectories.thermo import read_thermo
from tests.support.springs import springs_model


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch) -> list[str]:
    """Arguments that name a structure and a model; the working directory is empty but for them."""
    monkeypatch.chdir(tmp_path)
    write("ethanol.xyz", molecule("CH3CH2OH"))
    springs_model(tmp_path / "model.pt", read("ethanol.xyz"))
    return ["--structure", "ethanol.xyz", "--model", "model.pt"]


def piwsl(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit code, what was printed, and the lines of errors."""
    code = 0
    try:
        run([*arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


@pytest.mark.torchforce
def test_a_run_prints_force_speed_and_verdict(inputs, capsys):
    code, out, errors = piwsl(capsys, "md", *inputs, "--steps", "3000", "--ensemble", "nve", "--temperature", "300")
    assert (code, errors) == (0, [])
    assert "force TorchForce (works on Reference), platform Reference" in out
    assert "3000 steps of 0.5 fs (1.5 ps), nve from 300 K" in out
    assert "step 3000/3000  " in out
    assert "ns/day" in out
    assert "completed: 3000 steps (1.5 ps), no stop rule violated" in out
    assert out.splitlines()[-1] == "results: runs/md-ethanol"
    assert "\x1b" not in out
    summary = json.loads(Path("runs/md-ethanol/summary.json").read_text())
    assert (summary["ensemble"], summary["temperature_K"], summary["engine"]) == ("nve", 300.0, "openmm")


def test_stop_rules_are_listed_and_named(inputs, capsys):
    code, out, _ = piwsl(capsys, "md", "--stop", "help")
    names = [line.split()[0] for line in out.splitlines()]
    assert (code, names) == (0, ["rule", *(rule.name for rule in RULES)])
    code, _, errors = piwsl(capsys, "md", *inputs, "--stop", "bound:0.3")
    assert (code, errors) == (2, ["piwsl: unknown stop rule 'bound': did you mean 'bond'?"])
    code, _, errors = piwsl(capsys, "md", *inputs, "--stop", "temperature:10", "--stop", "bond:off", "--steps", "50")
    assert code == 3
    assert "temperature" in errors[-1]


def test_ensembles_have_short_names(inputs, capsys):
    assert piwsl(capsys, "md", *inputs, "--steps", "20", "--ensemble", "nvt", "--output", "run")[0] == 0
    assert json.loads(Path("run/summary.json").read_text())["ensemble"] == "nvt-langevin"


def test_ase_and_python_force_run_too(inputs, capsys):
    code, out, _ = piwsl(capsys, "md", *inputs, "--steps", "20", "--engine", "ase", "--output", "a")
    assert (code, "engine ase, platform torch on cpu" in out) == (0, True)
    springs_model(Path("general.pt"), read("ethanol.xyz"), form="general")
    code, out, _ = piwsl(capsys, "md", *inputs[:3], "general.pt", "--steps", "20", "--output", "b")
    assert (code, "force PythonForce (general.pt has the target general" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "-5"], "steps = -5: it must be at least 1"),
        (["--temperature", "0"], "temperature = '0'"),
        (["--structure", "missing.xyz"], "missing.xyz: no such file"),
        (["--model", "missing.pt"], "missing.pt: no such file"),
        (["--model", "ethanol.xyz"], "damaged or not an exported file"),
        (["--system", "water"], "unknown system 'water'"),
        (["--restart"], "no such directory"),
        (["--restart", "--force"], "give only one of them"),
        (["--output", "ethanol.xyz"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(inputs, capsys, arguments, words):
    before = sorted(Path.cwd().rglob("*"))
    code, _, errors = piwsl(capsys, "md", *inputs, *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert sorted(Path.cwd().rglob("*")) == before


def test_what_is_missing_is_said(inputs, capsys):
    assert "give --system NAME or --structure FILE" in piwsl(capsys, "md")[2][0]
    assert "with --model FILE" in piwsl(capsys, "md", *inputs[:2])[2][0]
    assert "or give the run directory with --output DIRECTORY" in piwsl(capsys, "md", "--restart")[2][0]


def test_two_atoms_on_top_of_each_other(inputs, capsys):
    atoms = read("ethanol.xyz")
    atoms.positions[4] = atoms.positions[1] + [0.2, 0, 0]
    write("ethanol.xyz", atoms)
    code, _, errors = piwsl(capsys, "md", *inputs, "--steps", "10")
    assert (code, errors) == (2, [
        "piwsl: ethanol.xyz: atoms C1 and H4 are 0.20 angstrom apart (closer than 0.5): correct the structure"
    ])  # fmt: skip


def test_another_run_needs_force(inputs, capsys):
    assert piwsl(capsys, "md", *inputs, "--steps", "20")[0] == 0
    code, _, errors = piwsl(capsys, "md", *inputs, "--steps", "20")
    assert (code, "already holds a molecular dynamics run" in errors[0]) == (2, True)
    assert piwsl(capsys, "md", *inputs, "--steps", "30", "--force")[0] == 0


def test_a_restart_needs_only_the_directory(inputs, capsys):
    piwsl(capsys, "md", *inputs, "--steps", "200", "--seed", "7", "--timestep", "0.25", "--output", "run")
    code, out, _ = piwsl(capsys, "md", "--restart", "--output", "run", "--steps", "400")
    assert (code, "continued from step 200 to 400" in out) == (0, True)
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["seed"], summary["timestep_fs"], summary["steps_done"]) == (7, 0.25, 400)
    assert summary["system"]["name"] == "ethanol"
    code, _, errors = piwsl(capsys, "md", "--restart", "--output", "run", "--steps", "400", "--seed", "8")
    assert (code, "seed: 7 -> 8" in errors[0]) == (2, True)
    code, out, _ = piwsl(capsys, "md", "--restart", "--output", "run", "--steps", "400")
    assert (code, "nothing to do: the run has already completed its 400 steps" in out) == (0, True)


def test_a_run_that_leaves_physics_has_exit_code_3(inputs, capsys):
    springs_model(Path("torn.pt"), read("ethanol.xyz"), first_bond=-3.0)
    code, out, errors = piwsl(capsys, "md", *inputs[:3], "torn.pt", "--output", "run")
    assert (code, len(errors)) == (3, 1)
    assert "bond C0-C1 is" in errors[0]
    assert out.splitlines()[-1] == "results: run"


def start_in_background(arguments: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from piwsl.cli.main import run; run()", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_state(process: subprocess.Popen, directory: Path, step: int) -> None:
    for _ in range(1200):
        files = state_files(directory)
        if files and int(files[0].stem.removeprefix("state-")) >= step:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no state appeared")


@pytest.mark.slow
def test_a_killed_run_continues_and_equals_one_that_was_not(inputs, capsys):
    # XTC is the format with a buffer, which a kill loses.
    settings = [
        "--trajectory-format",
        "xtc",
        "--trajectory-interval",
        "10",
        "--report-interval",
        "20",
        "--state-interval",
        "200",
    ]
    process = start_in_background(["md", *inputs, *settings, "--steps", "10000000", "--output", "killed"])
    wait_for_state(process, Path("killed"), 600)
    process.kill()
    process.communicate()
    killed = Path("killed")
    last = newest_states({0: killed})[0][0].step
    total = last + 1000
    code, _, errors = piwsl(capsys, "md", "--restart", "--output", "killed", "--steps", str(total))
    assert (code, errors) == (0, [])
    assert piwsl(capsys, "md", *inputs, *settings, "--steps", str(total), "--output", "whole")[0] == 0
    positions = [mdtraj.load(f"{name}/trajectory.xtc", top=f"{name}/topology.pdb").xyz for name in ("killed", "whole")]
    assert len(positions[0]) == total // 10
    assert np.array_equal(positions[0], positions[1])
    rows = [read_thermo(Path(name) / "thermo.csv") for name in ("killed", "whole")]
    assert [int(row[0]) for row in rows[0]] == list(range(20, total + 1, 20))
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_sigterm_ends_politely(inputs, capsys):
    process = start_in_background(
        ["md", *inputs, "--steps", "10000000", "--state-interval", "100000", "--output", "run"]
    )
    wait_for_state(process, Path("run"), 0)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: " in out
    assert "--restart" in out
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["result"] == "interrupted"
    assert newest_states({0: Path("run")})[0][0].step == summary["steps_done"] > 0


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    program = (
        "import sys; from piwsl.cli.main import run\n"
        "try: run(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'openmm', 'mdtraj', 'ase', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_import_of_piwsl_md_is_light():
    program = (
        "import sys, piwsl.md; print('torch' in sys.modules); piwsl.md.MDProtocol(); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.slow
@pytest.mark.torchforce
def test_the_bundled_system_runs_at_once(capsys, tmp_path, monkeypatch):
    if not named_system("aspirin").exported.is_file():
        pytest.skip("the bundled aspirin model is not there")
    monkeypatch.chdir(tmp_path)
    code, out, errors = piwsl(capsys, "md", "--system", "aspirin", "--steps", "50")
    assert (code, errors) == (0, [])
    assert out.splitlines()[-1] == "results: runs/md-aspirin"
    assert "force TorchForce" in out
