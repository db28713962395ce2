"""`piwsl evaluate` as typed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from piwsl.data.write import write_extxyz
from piwsl.export.trained_file import load_trained, save_trained
from tests.support.limits import limited_files
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


@pytest.fixture
def sets(tmp_path):
    for place, name in enumerate(("water", "methane")):
        made = [frame({"water": "H2O", "methane": "CH4"}[name], seed=10 * place + n, labeled=True) for n in range(3)]
        write_extxyz(tmp_path / f"{name}.extxyz", made)
    return "water.extxyz", "methane.extxyz"


def test_several_files_are_one_table(cli, exports, sets):
    called = cli("evaluate", exports.trained(), *sets, "--write", "p.extxyz")
    assert called.code == 0, called.errors
    lines = called.out.splitlines()
    assert lines[0] == "6 frames of water.extxyz, methane.extxyz"
    table = lines.index(next(line for line in lines if line.startswith("data set")))
    assert [line.split()[:2] for line in lines[table + 1 : table + 3]] == [
        ["water.extxyz", "3"],
        ["methane.extxyz", "3"],
    ]
    assert any(line.startswith("element ") for line in lines)
    assert "parity plot: water-parity.png" in lines
    assert "predictions, worst frame first: p.extxyz" in lines
    assert len(read("p.extxyz", ":")) == 6
    again = cli("evaluate", exports.trained(), *sets, "--write", "p.extxyz", "--plot", "q.png")
    assert (again.code, again.errors) == (
        2,
        ["piwsl: p.extxyz exists: replace it with --force, or choose another write"],
    )


def test_the_errors_are_printed_also_without_room_for_the_plot(cli, exports, sets):
    with limited_files(2000):
        called = cli("evaluate", exports.trained(), "water.extxyz")
        as_json = cli("evaluate", exports.trained(), "water.extxyz", "--json")
    message = "piwsl: water-parity.png: cannot be written (File too large): make room, then try again"
    assert (called.code, called.errors[-1:]) == (as_json.code, as_json.errors[-1:]) == (2, [message])
    assert "forces" in called.out
    assert "parity plot" not in called.out
    assert json.loads(as_json.out)["plot"] is None


@pytest.mark.slow
def test_the_model_may_be_an_exported_file_or_a_run_directory(cli, exports, sets):
    figures = []
    for model in (exports.trained(), exports.trained().parent, exports.general()):
        called = cli("evaluate", model, "water.extxyz", "--json", "--force")
        assert called.code == 0, called.errors
        figures.append(json.loads(called.out))
    assert figures[0] == figures[1]
    assert figures[2]["force_mae"] == pytest.approx(figures[0]["force_mae"], rel=1e-6)


def test_a_model_that_gives_nan_exits_with_1_and_a_sentence(cli, sets, tmp_path):
    model = load_trained(trained_file(tmp_path / "model.pt", dtype="float64"))
    broken = {name: values * np.nan if values.is_floating_point() else values for name, values in model.tensors.items()}
    save_trained(replace(model, tensors=broken), tmp_path / "nan.pt")
    called = cli("evaluate", "nan.pt", "water.extxyz", "--json")
    assert called.code == 1
    assert len(called.errors) == 1
    assert "the predicted energy or forces are not finite for 3 of 3 frames" in called.errors[0]
    values = json.loads(called.out, parse_constant=pytest.fail)
    assert (values["energy_mae"], values["not_finite"], values["plot"]) == (None, 3, None)
    assert not Path("water-parity.png").exists()


@pytest.mark.slow
def test_evaluate_prints_the_scans(cli, tmp_path, exports):
    write_extxyz(tmp_path / "water.extxyz", [frame("H2O", seed=seed, labeled=True) for seed in range(3)])
    called = cli("evaluate", exports.trained(), "water.extxyz", "--scan", "--force")
    assert called.code == 0, called.errors
    assert any(line.startswith("scans outside the data: the energy rises in ") for line in called.out.splitlines())
    called = cli("evaluate", exports.trained(), "water.extxyz", "--scan", "--force", "--json")
    assert len(json.loads(called.out)["scans"]) == 6
