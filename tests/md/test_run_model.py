"""The file that a run makes of a trained model: compiled for long runs where that is possible."""

import logging

import numpy as np
import pytest
from ase import Atoms

from piwsl.data.systems import SYSTEMS
from piwsl.errors import ConfigError
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_protocol
from piwsl.md.run_model import COMPILED_FROM, prepare_model
from piwsl.trajectories.thermo import read_thermo
from tests.support.compilation import compile_as_torchscript
from tests.support.models_for_tests import trained_file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained_file(tmp_path_factory.mktemp("model") / "model.pt", frames=("CH3CH2OH",), layers=1, channels=8)


def long_run(structure, factor=1.0):
    return MDProtocol.of(steps=int(factor * COMPILED_FROM["molecule"] / len(structure)) + 1)


def test_short_runs_are_not_compiled(model, ethanol, tmp_path):
    assert prepare_model(model, ethanol, long_run(ethanol, 0.9), tmp_path).name == "exported.pt"


def test_a_long_run_without_a_compiler_is_not_compiled(model, ethanol, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "piwsl")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare_model(model, ethanol, long_run(ethanol), tmp_path).name == "exported.pt"
    assert "was not compiled: format='aotinductor' requires a C++ compiler" in caplog.text


def test_a_long_run_in_a_cell_is_not_compiled(model, ethanol, tmp_path, caplog):
    caplog.set_level(logging.INFO, "piwsl")
    cell = Atoms(ethanol, cell=np.eye(3) * 20.0, pbc=True)
    assert prepare_model(model, cell, long_run(cell), tmp_path).name == "exported.pt"
    assert "compil" not in caplog.text


def test_a_file_for_several_copies_needs_replicas(exports, ethanol, tmp_path):
    """As one structure, overlapping copies would trip the contact rule, and their observables would mean nothing."""
    model = exports.openmm(copies=2)
    with pytest.raises(ConfigError, match=r"2 copies of a molecule per call: pass one molecule and --replicas N"):
        prepare_model(model, ethanol + ethanol, MDProtocol.of(steps=1), tmp_path)
    assert prepare_model(model, ethanol, MDProtocol.of(steps=1, replicas=2), tmp_path) == model


@pytest.mark.compile
def test_a_long_run_is_compiled_once_and_its_restart_is_exact(model, ethanol, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "piwsl")
    monkeypatch.setenv("PIWSL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(COMPILED_FROM, "molecule", 0)
    short = {"trajectory_interval": 10, "report_interval": 10, "state_interval": 20}
    for steps, name, restart in ((40, "whole", False), (20, "halves", False), (40, "halves", True)):
        run_protocol(ethanol, model, MDProtocol.of(steps=steps, **short), tmp_path / name, restart=restart)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert (halves / "exported.pt2").read_bytes() == (whole / "exported.pt2").read_bytes()
    assert caplog.text.count("compiling the model") == 1
    assert not (halves / "exported.pt").exists()
    assert read_thermo(whole / "thermo.csv") == read_thermo(halves / "thermo.csv")


@pytest.mark.slow
def test_a_long_run_of_a_bundled_system_is_compiled_from_its_trained_file(tmp_path, monkeypatch):
    compile_as_torchscript(monkeypatch)
    monkeypatch.setenv("PIWSL_CACHE_DIR", str(tmp_path / "cache"))
    aspirin = SYSTEMS["aspirin"]
    exported, structure = aspirin.exported, aspirin.structure
    assert prepare_model(exported, structure, long_run(structure, 0.9), tmp_path) == exported
    assert prepare_model(exported, structure[::-1], long_run(structure), tmp_path) == exported  # refused later
    monkeypatch.setitem(COMPILED_FROM, "molecule", 0)
    short = {"report_interval": 10, "state_interval": 10}
    for steps, restart in ((10, False), (20, True)):
        run = run_protocol(structure, exported, MDProtocol.of(steps=steps, **short), tmp_path / "run", restart=restart)
    assert run.summary.result == "completed"
    assert run.summary.model.path == str(exported)
    assert (tmp_path / "run" / "exported.pt2").is_file()
