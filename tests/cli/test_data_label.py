"""`piwsl data label` as a user calls it."""

import json
from pathlib import Path

import pytest
from ase.build import bulk, molecule
from ase.io import write

from piwsl.runs.executors import LocalProcesses, Outcome

SPRINGS = "tests.support.faulty_calculators:Springs"
EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def here(monkeypatch):
    """Compute in this process, which is quick; processes are tested in tests/data."""

    def run(self, function, tasks, waiting=None):
        for index, task in enumerate(tasks):
            yield Outcome(index, function(*task))

    monkeypatch.setattr(LocalProcesses, "run", run)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


@pytest.fixture
def waters(tmp_path):
    structures = []
    for index in range(8):
        atoms = molecule("H2O")
        atoms.positions[0, 0] = index
        structures.append(atoms)
    write(tmp_path / "in.xyz", structures)
    return tmp_path / "in.xyz"


@pytest.mark.slow
def test_given_structures_through_a_real_process(cli, tmp_path):
    write(tmp_path / "in.xyz", [bulk("Cu", a=3.6 + 0.1 * i) for i in range(2)])
    called = cli("data", "label", "--frames", "in.xyz", "--method", EMT, "--output", "labels", "--workers", 1)
    assert called.code == 0
    lines = called.out.splitlines()
    assert lines[:2] == ["frames 1/2", "frames 2/2"]
    assert lines[-1] == f"labeled 2 of 2 frames with {EMT}: labels/frames.xyz (eV, angstrom)"
    inspected = cli("data", "inspect", "labels/frames.xyz").out
    assert "energies on 2 and forces on 2 of 2 frames, stress on 2" in inspected


def test_failures_are_counted_and_the_job_goes_on(cli, here, waters):
    options = json.dumps({"fail": [0, 1, 2, 3, 5, 6]})
    arguments = ("data", "label", "--frames", waters, "--method", SPRINGS, "--output", "labels")
    called = cli(*arguments, "--calculator-options", options)
    assert called.code == 0
    assert called.out.splitlines()[-1].startswith("labeled 2 of 8 frames with ")
    assert called.errors == [
        *(f"frame {index} has no labels: no convergence for structure {index}" for index in (0, 1, 2, 3, 5)),
        "and 1 more, listed in labels/summary.json",
    ]
    assert "energies on 2 and forces on 2 of 8 frames" in cli("data", "inspect", "labels/frames.xyz").out


def test_a_method_without_forces_is_said(cli, here, waters):
    method = "tests.support.faulty_calculators:EnergyOnly"
    called = cli("data", "label", "--frames", waters, "--method", method, "--output", waters.with_name("out"))
    assert called.code == 0
    assert "the labels are energies without forces" in called.out


def test_nothing_labeled_is_exit_code_2(cli, here, waters):
    options = json.dumps({"fail": list(range(8))})
    arguments = ("data", "label", "--frames", waters, "--method", SPRINGS, "--output", "labels")
    called = cli(*arguments, "--calculator-options", options)
    assert called.code == 2
    assert called.errors == ["piwsl: no frame could be labeled: frame 0: no convergence for structure 0"]


def test_units_of_the_structures(cli, here, waters):
    arguments = ("--frames", waters, "--units", "eV, bohr", "--method", SPRINGS, "--output", "labels")
    assert cli("data", "label", *arguments).code == 0
    assert "smallest distance  0.513 A" in cli("data", "inspect", "labels/frames.xyz").out  # 0.969 bohr


def test_dynamics_with_other_methods(cli, here, tmp_path):
    write(tmp_path / "start.xyz", molecule("N2"))
    steps = ("--trajectories", 1, "--steps", 4, "--equilibration-steps", 0, "--chunk-steps", 2)
    steps += ("--frame-interval", 2, "--position-interval", 1)
    called = cli("data", "label", "--structure", "start.xyz", "--method", "gfn1-xtb", "--output", "labels", *steps)
    assert called.code == 0
    assert called.out.splitlines()[-1] == "labeled frames: labels/frames.npz; positions: labels/trajectory.npz"
    assert json.loads(Path("labels/plan.json").read_text())["method"] == "gfn1-xtb"
    assert "energies on 2" in cli("data", "inspect", "labels/frames.npz").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --frames, --system and --structure"),
        (["--frames", "in.xyz", "--system", "aspirin"], "give exactly one of"),
        (["--frames", "in.xyz", "--steps", "10"], "--steps applies to sampling only: omit this option with --frames"),
        (["--frames", "in.xyz", "--force-tolerance", "1"], "--force-tolerance applies to sampling only"),
        (["--system", "aspirin", "--units", "eV"], "--units applies to --frames only"),
        (["--frames", "in.xyz", "--workers", "2", "--scheduler", "tcp://x:1"], "--workers N has no effect with --sch"),
        (["--frames", "in.xyz", "--calculator-options", "charge=1"], "--calculator-options is not JSON"),
        (["--frames", "in.xyz", "--calculator-options", "[1]"], "--calculator-options is [1]"),
        (["--frames", "in.xyz", "--method", "b3lyp"], "unknown method 'b3lyp': use one of gfn2-xtb, gfn1-xtb, pyscf:"),
        (["--frames", "in.xyz", "--method", "pyscf:nope/sto-3g"], "PySCF has no functional 'nope'"),
        (["--frames", "none.xyz"], "none.xyz: no such file"),
    ],
)
def test_bad_calls_are_one_line(cli, here, waters, arguments, message):
    called = cli("data", "label", "--output", "labels", *arguments)
    assert called.code == 2
    assert len(called.errors) == 1
    assert message in called.errors[0]
    assert not Path("labels").exists()
