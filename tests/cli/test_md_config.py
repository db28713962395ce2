"""Where options of `piwsl md` come from: template, configuration, published protocols, named systems; the plan."""

import json
from pathlib import Path

import pytest
import yaml
from ase.build import molecule
from ase.io import read, write

from piwsl.cli.main import run
from piwsl.md.protocol import PRESETS, MDProtocol
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
        run(["md", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def kept(directory: str) -> MDProtocol:
    return MDProtocol.load(Path(directory) / "config.yaml")


def test_the_template_is_a_configuration_of_the_defaults(inputs, capsys):
    code, out, _ = piwsl(capsys, "--template")
    assert code == 0
    assert MDProtocol.of(**yaml.safe_load(out)) == MDProtocol()
    assert all(f"\n{name}:" in out for name in MDProtocol.model_fields)
    Path("run.yaml").write_text(out.replace("steps: 100000", "steps: 30") + "structure: ethanol.xyz\nmodel: model.pt\n")
    assert piwsl(capsys, "--config", "run.yaml", "--output", "a")[0] == 0
    assert kept("a") == MDProtocol.of(steps=30)


def test_the_command_line_goes_before_the_file_and_the_file_before_the_study(inputs, capsys):
    Path("run.yaml").write_text("steps: 40\nseed: 7\ntemperature: 100:200\nensemble: nvt\n")
    code, out, _ = piwsl(capsys, *inputs, "--config", "run.yaml", "--protocol", "fu2023", "--steps", "20")
    assert code == 0
    found = kept("runs/md-ethanol")
    assert (found.steps, found.seed, found.ensemble, found.timestep) == (20, 7, "nvt-langevin", 0.5)
    assert "20 steps of 0.5 fs (0.01 ps), nvt-langevin at 100:200 K, seed 7" in out


@pytest.mark.parametrize("name", PRESETS)
def test_published_protocols_are_protocols(name):
    made = MDProtocol.of(**PRESETS[name])
    assert (made.timestep, made.steps, made.trajectory_interval) == (0.5, 600_000, 100)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "fu2022"], "unknown protocol 'fu2022': choose one of fu2023, piwsl2025"),
        (["--config", "missing.yaml"], "missing.yaml: no such file"),
        (["--config", "bad.yaml"], "unknown key temprature: did you mean temperature?"),
        (
            ["--system", "ethanol", "--structure", "water.xyz"],
            "--system ethanol has the formula C2H6O, but the structure is H2O",
        ),
        (["--system", "methanol"], "unknown system 'methanol': use one of aspirin"),
        (["--temperature", "300:"], "give a temperature in K, or several temperatures joined by colons"),
        (["--ensemble", "nvt-csvr"], "engine openmm does not support nvt-csvr: choose --engine ase"),
        (["--ensemble", "npt"], "npt requires a periodic structure"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(inputs, capsys, arguments, words):
    Path("bad.yaml").write_text("temprature: 3\n")
    write("water.xyz", molecule("H2O"))
    before = sorted(Path.cwd().rglob("*"))
    code, _, errors = piwsl(capsys, *inputs, *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_molecule_by_its_name_wants_a_structure_and_a_model(inputs, capsys):
    _, _, errors = piwsl(capsys, "--system", "ethanol")
    assert errors == ["piwsl: --system ethanol has no bundled structure: give --structure FILE"]
    _, _, errors = piwsl(capsys, "--system", "ethanol", *inputs[:2])
    assert "with --model FILE" in errors[0]
    assert piwsl(capsys, "--system", "ethanol", *inputs, "--steps", "10")[0] == 0
    assert json.loads(Path("runs/md-ethanol/summary.json").read_text())["system"]["name"] == "ethanol"


@pytest.mark.slow
@pytest.mark.torchforce
def test_a_dry_run_says_what_would_happen_and_writes_nothing(inputs, capsys):
    before = sorted(Path.cwd().rglob("*"))
    code, out, _ = piwsl(capsys, *inputs, "--dry-run", "--timestep", "2")
    assert code == 0
    assert "structure   C2H6O, 9 atoms, molecule" in out
    assert "force TorchForce (works on Reference)" in out
    assert "steps/s" in out
    assert "time        about" in out
    assert "output      runs/md-ethanol" in out
    assert "warning: a time step of 2 fs is too long for hydrogen atoms of 1.0 amu: use at most 0.5 fs" in out
    assert sorted(Path.cwd().rglob("*")) == before


def test_flags_reach_the_protocol(inputs, capsys):
    arguments = ["--minimize", "--hydrogen-mass", "2", "--equilibration", "10", "--on-stop", "record", "--steps", "20"]
    assert piwsl(capsys, *inputs, *arguments)[0] == 0
    found = kept("runs/md-ethanol")
    assert (found.minimize, found.hydrogen_mass, found.equilibration, found.on_stop) == (True, 2.0, 10, "record")
    assert read("runs/md-ethanol/start.extxyz").get_masses().tolist()[3:] == [2.0] * 6
