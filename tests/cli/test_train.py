"""`piwsl train`, `export`, `evaluate` and `data` as typed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from piwsl.export.exported_file import load_exported
from piwsl.runs.files import sha256
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

SMALL = [
    "-o",
    "data.validation=5",
    "-o",
    "data.test=5",
    "-o",
    "model.channels=8",
    "-o",
    "model.layers=1",
    "-o",
    "model.cutoff=3",
    "-o",
    "threads=1",
    "-o",
    "optimizer.steps=10",
    "-o",
    "optimizer.batch_size=4",
    "-o",
    "optimizer.validation_interval=5",
]


@pytest.fixture
def water(tmp_path):
    """Random labels on 30 frames of water, in kcal/mol, in a file that states no units."""
    frames = [frame("H2O", seed=seed, labeled=True) for seed in range(30)]
    path = tmp_path / "water.npz"
    np.savez(
        path,
        nuclear_charges=frames[0].species,
        coords=[f.positions for f in frames],
        energies=[f.energy * 5 - 40_000 for f in frames],
        forces=[f.forces * 20 for f in frames],
    )
    return path


@pytest.mark.slow
def test_train_export_evaluate_on_a_file_named_with_its_units(cli, water):
    trained = cli("train", "--data", water, "--units", "kcal/mol", "--output", "run", *SMALL)
    assert trained.code == 0, trained.errors
    assert "energies on 30 and forces on 30 of 30 frames" in trained.out
    assert "20 training, 5 validation, 5 test frames" in trained.out
    assert "step 10/10" in trained.out
    assert "meV/A" in trained.out
    assert "\x1b" not in trained.out
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["units"] == "kcal/mol"

    exported = cli("export", "run/model.pt")
    assert exported.code == 0, exported.errors
    assert "forces against -dE/dx" in exported.out
    assert load_exported(Path("run/model-general.pt")).target == "general"
    info = cli("export", "--info", "run/model-general.pt")
    assert json.loads(info.out)["elements"] == [1, 8]

    evaluated = cli("evaluate", "run/model.pt", water, "--units", "kcal/mol", "--json")
    assert evaluated.code == 0, evaluated.errors
    figures = json.loads(evaluated.out)
    assert (figures["frames"], figures["structures"]) == (30, 30)
    assert Path(figures["plot"]).read_bytes().startswith(b"\x89PNG")
    again = cli("evaluate", "run/model.pt", water, "--units", "kcal/mol")
    assert again.code == 2
    assert "--force" in again.errors[0]


@pytest.mark.slow
def test_export_for_openmm_bakes_the_species_of_a_file(cli, tmp_path):
    from ase.io import write

    model = trained_file(tmp_path / "model.pt")
    write("water.xyz", frame("H2O").atoms())
    done = cli("export", model, "--target", "openmm", "--structure", "water.xyz", "--output", "water.pt")
    assert done.code == 0, done.errors
    assert load_exported(tmp_path / "water.pt").species == [8, 1, 1]
    before = sha256(tmp_path / "water.pt")
    refused = cli("export", model, "--target", "openmm", "--structure", "water.xyz", "--output", "water.pt")
    assert refused.code == 2
    assert sha256(tmp_path / "water.pt") == before
    assert cli("export", model, "--target", "openmm").code == 2
    assert cli("export", model, "--system", "aspirin").code == 2


@pytest.mark.slow
def test_fine_tuning_shows_what_was_loaded(cli, water):
    first = cli("train", "--data", water, "--units", "kcal/mol", "--output", "first", *SMALL)
    assert first.code == 0, first.errors
    assert "training labels    energies on 20, forces on 20, stress on 0 of 20 frames" in first.out
    fixed = ["-o", "start.freeze=[embedding]"]
    data = ["--data", water, "--units", "kcal/mol"]
    second = cli("train", *data, "--init-from", "first/model.pt", "--output", "second", *SMALL, *fixed)
    assert second.code == 0, second.errors
    lines = [line for line in second.out.splitlines() if line.startswith("start: ")]
    assert any("loaded (15): embedding, " in line for line in lines)
    assert any("refitted to 20 energies" in line for line in lines)
    assert "start: frozen (1): embedding.weight" in lines
    wrong = cli("train", *data, "--init-from", "first/model.pt", "--output", "x", *SMALL, "-o", "start.freeze=[embed]")
    assert wrong.code == 2
    assert "similar prefixes are embedding" in wrong.errors[0]


@pytest.mark.slow
def test_an_ensemble_is_trained_and_resumed(cli, water):
    data = ["--data", water, "--units", "kcal/mol"]
    done = cli("train", *data, "--seeds", "3,4", "--output", "e", *SMALL)
    assert done.code == 0, done.errors
    for title in ("test errors", "seed 3", "seed 4", "mean  ", "standard deviation", "mean prediction"):
        assert sum(line.startswith(title) for line in done.out.splitlines()) == 1
    assert done.out.count("step 10/10") == 2
    assert done.out.count("20 training, 5 validation") == 1
    assert json.loads(Path("e/ensemble.json").read_text())["seeds"] == [3, 4]
    assert "continue it with --resume" in cli("train", *data, "--seeds", "3,4", "--output", "e", *SMALL).errors[-1]
    Path("e/seed-4/summary.json").unlink()
    again = cli("train", "--resume", "--output", "e")
    assert again.code == 0, again.errors
    assert again.out.count("member ") == 1
    table = [line for line in done.out.splitlines() if line.startswith(("seed", "mean", "standard"))]
    assert [line for line in again.out.splitlines() if line.startswith(("seed", "mean", "standard"))] == table


@pytest.mark.slow
def test_a_section_tune_is_ignored_with_a_note(cli, water, tmp_path):
    (tmp_path / "c.yaml").write_text("tune: {ranges: {loss.pitc: {low: 1, high: 2}}}\nloss: {pitc: 3}\n")
    called = cli("train", "c.yaml", "--data", water, "--units", "kcal/mol", "--output", "run", *SMALL)
    assert called.code == 0, called.errors
    assert called.errors[0] == "note: c.yaml: the section tune is ignored here; `piwsl tune` uses it"
    assert yaml.safe_load(Path("run/config.yaml").read_text())["loss"]["pitc"] == 3
    (tmp_path / "d.yaml").write_text("tune: {ranges: {loss.pitc: {low: 1, high: 2}}}\nloss: {pict: 3}\n")
    wrong = cli("train", "d.yaml", "--data", water)
    assert wrong.errors == ["piwsl: d.yaml: unknown key loss.pict: did you mean loss.pitc?"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "data.file or data.system"),
        (["train", "--system", "caffeine"], "use one of aspirin, or give a file"),
        (["train", "--data", "none.npz"], "no such file"),
        (["train", "--data", "water.npz"], "--units"),
        (["train", "--data", "water.npz", "--units", "furlong"], "unknown energy unit"),
        (["train", "--data", "water.npz", "--units", "eV", "-o", "los.pitc=1"], "did you mean loss"),
        (["train", "--resume", "--output", "nothing"], "no such file"),
        (["evaluate", "none.pt", "water.npz"], "none.pt: no such file"),
        (["export", "water.npz"], "not a trained piwsl model"),
        (["data", "inspect", "water.npz"], "--units"),
        (["data", "label", "--output", "x"], "--system and --structure"),
        (["train", "--data", "water.npz", "--units", "eV", "--seeds", "1,b"], "such as 1,2,3"),
        (["train", "--data", "water.npz", "--units", "eV", "--seeds", "1,1"], "distinct integers"),
        (["train", "--data", "water.npz", "--units", "kcal/mol", "--init-from", "none.pt"], "none.pt: no such file"),
        (["train", "--data", "water.npz", "--units", "kcal/mol", "-o", "loss.stress=1"], "a stress: set it to 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(cli, water, arguments, message):
    before = sorted(path.name for path in water.parent.iterdir())
    called = cli(*arguments)
    assert called.code == 2
    assert len(called.errors) == 1
    assert called.errors[0].startswith("piwsl: ")
    assert message in called.errors[0]
    assert sorted(path.name for path in water.parent.iterdir()) == before


def test_an_unknown_element_is_named(cli, tmp_path):
    model = trained_file(tmp_path / "model.pt")
    made = frame("CH3Cl")
    np.savez("cl.npz", z=made.species, R=made.positions[None], E=np.zeros(1), units="eV")
    called = cli("evaluate", model, "cl.npz")
    assert called.code == 2
    assert "not trained on Cl" in called.errors[0]


def test_template_is_valid(cli, tmp_path):
    text = cli("train", "--template").out
    (tmp_path / "c.yaml").write_text(text)
    called = cli("train", "c.yaml")
    assert "data.file or data.system" in called.errors[0]


def test_inspect_warns_of_wrong_units(cli, water):
    assert "warning" not in cli("data", "inspect", water, "--units", "kcal/mol").out
    assert "kcal/mol read as eV" in cli("data", "inspect", water, "--units", "eV").out


def test_torch_keeps_its_default_dtype(cli, water):
    cli("data", "inspect", water, "--units", "kcal/mol")
    assert torch.get_default_dtype() == torch.float32


def test_a_dry_run_prints_the_plan_and_writes_nothing(cli, water, tmp_path):
    before = set(tmp_path.iterdir())
    done = cli("train", "--data", water, "--units", "kcal/mol", "--dry-run", *SMALL, "-o", "optimizer.warmup=10")
    assert done.code == 0, done.errors
    for label in ("training labels", "weights", "  readout", "memory", "time of a step", "time in total", "output"):
        assert f"\n{label} " in done.out, label
    assert any(line.startswith("warning: optimizer.warmup (10)") for line in done.errors)
    assert set(tmp_path.iterdir()) == before
    refused = cli("train", "--resume", "--output", "run", "--dry-run")
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert "omit --resume" in refused.errors[0]
