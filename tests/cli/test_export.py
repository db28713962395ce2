"""`piwsl export` as typed: compiled files that run, ensembles, and refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from piwsl import load_model
from piwsl.data.frames import FrameSet
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


@pytest.fixture
def water(cli):
    """A trained file and a structure in the working directory."""
    trained_file(Path("model.pt"), network="schnet", layers=1, channels=8)
    write("water.xyz", frame("H2O").atoms())


@pytest.mark.compile
def test_a_compiled_file_runs_in_both_engines(cli, water):
    """The charge is fixed in the file; `tests/export/test_charge.py` compiles one that takes it as input."""
    trained_file(Path("model.pt"), charge_embedding=True, layers=1, channels=8, dtype="float64")
    target = ["--target", "openmm", "--structure", "water.xyz", "--charge", "1", "--unpaired-electrons", "1"]
    made = cli("export", "model.pt", "--format", "aotinductor", *target)
    assert made.code == 0, made.errors
    assert made.errors == ["compiling, which takes a minute or more"]
    assert "forces against -dE/dx" in made.out
    assert "written: model-openmm.pt2" in made.out
    info = json.loads(cli("export", "--info", "model-openmm.pt2").out)
    assert (info["format_of_program"], info["check"]) == ("aotinductor", "2 structures with energies and forces")
    assert info["fixed_charge"] == [1.0, 1.0]
    cation = replace(frame("H2O", seed=3), charge=1.0, unpaired_electrons=1.0)
    found = bind(load_exported(Path("model-openmm.pt2")), cation.species)(cation.positions)
    (expected,) = load_model("model.pt").predict(FrameSet([cation]))
    assert found.energy == pytest.approx(expected.energy, abs=1e-8)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-8)
    for engine, force in (("openmm", "PythonForce (model-openmm.pt2 is compiled"), ("ase", "engine ase")):
        arguments = ["--structure", "water.xyz", "--model", "model-openmm.pt2", "--engine", engine]
        run = cli("md", *arguments, "--steps", "20", "--temperature", "50", "--output", f"run-{engine}")
        assert run.code == 0, run.errors
        assert force in run.out
        assert "completed: 20 steps" in run.out
    write("methane.xyz", frame("CH4").atoms())
    other = cli("md", "--structure", "methane.xyz", "--model", "model-openmm.pt2", "--steps", "20")
    assert other.code == 2
    assert other.errors == [
        "piwsl: model-openmm.pt2: exported for 3 atoms, but the structure has 5: export the potential for this "
        "structure"
    ]


@pytest.mark.slow
def test_several_files_are_an_ensemble(cli, water):
    trained_file(Path("second.pt"), network="schnet", layers=1, channels=8, seed=1)
    made = cli("export", "model.pt", "second.pt", "--output", "both.pt")
    assert made.code == 0, made.errors
    assert load_exported(Path("both.pt")).members == 2
    trained_file(Path("third.pt"), network="schnet", layers=1, channels=8, cutoff=3)
    refused = cli("export", "model.pt", "third.pt", "--output", "no.pt")
    assert refused.code == 2
    assert "differ in cutoff" in refused.errors[0]
    assert not Path("no.pt").exists()


@pytest.mark.slow
def test_copies_of_a_molecule(cli, water):
    made = cli("export", "model.pt", "--target", "openmm", "--structure", "water.xyz", "--copies", "3")
    assert made.code == 0, made.errors
    exported = load_exported(Path("model-openmm.pt"))
    assert (exported.copies, exported.species) == (3, 3 * [8, 1, 1])
    refused = cli("export", "model.pt", "--copies", "3")
    assert refused.errors == [
        "piwsl: --copies N requires --target openmm: a general file supports any number of structures, so omit it"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.pt", "--device", "cuda"], "PyTorch finds no GPU"),
        (["model.pt", "--structure", "water.xyz"], "require --target openmm"),
        (["model.pt", "--target", "openmm"], "either --system NAME or --structure FILE"),
        (["--info", "water.xyz"], "damaged or not an exported file"),
        (["empty"], "empty"),
        (["empty", "model.pt"], "empty"),
    ],
)
def test_refusals_are_one_line(cli, water, arguments, message):
    Path("empty").mkdir()
    refused = cli("export", *arguments)
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert message in refused.errors[0]
    assert not list(Path().glob("*-*.pt*"))


@pytest.mark.slow
def test_a_network_that_breaks_a_law_is_exported_for_openmm_only_if_this_is_accepted(cli, water):
    trained_file(Path("spin.pt"), network="spinconv", layers=1, channels=8, hidden=8)
    arguments = ["export", "spin.pt", "--target", "openmm", "--structure", "water.xyz"]
    refused = cli(*arguments)
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert "network spinconv: forces jump where a neighbor crosses a ring" in refused.errors[0]
    assert "--accept-limitation" in refused.errors[0]
    assert not Path("spin-openmm.pt").exists()
    accepted = cli(*arguments, "--accept-limitation")
    assert accepted.code == 0, accepted.errors
    assert "limitation: network spinconv: forces jump" in accepted.out
    info = json.loads(cli("export", "--info", "spin-openmm.pt").out)
    assert info["limitation"].startswith("network spinconv: forces jump")
    general = cli("export", "spin.pt")
    assert general.code == 0, general.errors
    assert "limitation: network spinconv" in general.out


@pytest.mark.slow
def test_charge_and_spin(cli, water):
    trained_file(Path("charged.pt"), charge_embedding=True, layers=1, channels=8)
    trained_file(Path("plain.pt"), layers=1, channels=8)
    fixed = ["--target", "openmm", "--structure", "water.xyz", "--charge", "1", "--unpaired-electrons", "0"]
    assert cli("export", "charged.pt", *fixed).code == 0
    assert json.loads(cli("export", "--info", "charged-openmm.pt").out)["fixed_charge"] == [1.0, 0.0]
    refused = cli("export", "plain.pt", *fixed)
    assert refused.code == 2
    assert "--charge 1: network painn ignores charge and spin: leave this out" in refused.errors[0]
    general = cli("export", "charged.pt", "--charge", "1")
    assert general.code == 2
    assert "--charge N and --unpaired-electrons N require --target openmm" in general.errors[0]
