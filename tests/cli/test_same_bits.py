"""A run from Python and the same from the command line give the same bits."""

from pathlib import Path

import pytest
import torch
from ase.build import molecule
from ase.io import read, write

import piwsl
from piwsl.training.config import load_config
from tests.support.frame_sets import random_water_file
from tests.support.springs import springs_model

SETTINGS = {
    "data.validation": 5,
    "model.channels": 8,
    "model.layers": 1,
    "optimizer.steps": 6,
    "optimizer.batch_size": 4,
    "optimizer.validation_interval": 3,
}


def test_molecular_dynamics(cli):
    write("ethanol.xyz", molecule("CH3CH2OH"))
    springs_model(Path("model.pt"), read("ethanol.xyz"))
    run = piwsl.run_md("ethanol.xyz", "model.pt", output="python", steps=200, temperature=300, seed=3)
    options = ["--steps", "200", "--temperature", "300", "--seed", "3", "--output", "command"]
    called = cli("md", "--structure", "ethanol.xyz", "--model", "model.pt", *options)
    assert (called.code, run.completed, run.stable, run.steps) == (0, True, True, 200)
    names = ["config.yaml", "thermo.csv", "trajectory.dcd", "topology.pdb", "start.extxyz"]
    for name in names:
        assert (Path("python") / name).read_bytes() == (Path("command") / name).read_bytes(), name
    assert piwsl.MDRun.read("command").summary.system == run.summary.system
    assert "data:image/png" in run._repr_html_()
    in_memory = piwsl.run_md(read("ethanol.xyz"), "model.pt", steps=200, temperature=300, seed=3)
    assert in_memory.directory == Path("runs/md-C2H6O")
    assert (in_memory.directory / "thermo.csv").read_bytes() == Path("python/thermo.csv").read_bytes()


@pytest.mark.slow
def test_training(cli, tmp_path):
    random_water_file(tmp_path / "water.npz", frames=20)
    result = piwsl.train("water.npz", units="eV", output="python", options=SETTINGS)
    overrides = [word for key, value in SETTINGS.items() for word in ("-o", f"{key}={value}")]
    called = cli("train", "--data", "water.npz", "--units", "eV", "--output", "command", *overrides)
    assert called.code == 0, called.errors
    assert load_config(Path("python/config.yaml")) == load_config(Path("command/config.yaml"))
    ours, theirs = (piwsl.load_model(Path(name) / "model.pt").tensors for name in ("python", "command"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert result.directory == Path("python")
    assert "force" in result._repr_html_()


def test_frames_in_memory_train_the_same(cli, tmp_path):
    random_water_file(tmp_path / "water.npz", frames=20)
    frames = piwsl.read_frames("water.npz", "eV")
    result = piwsl.train(frames, output="memory", options=SETTINGS)
    assert load_config(Path("memory/config.yaml")).data.file == str(tmp_path / "memory-data.extxyz")
    assert result.errors.force_mae is not None
    with pytest.raises(piwsl.ConfigError, match="output="):
        piwsl.train(frames)


@pytest.mark.slow
def test_an_ensemble_becomes_one_file(cli, tmp_path):
    random_water_file(tmp_path / "water.npz", frames=20)
    ensemble = piwsl.train_ensemble("water.npz", seeds=[1, 2], units="eV", output="both", options=SETTINGS)
    assert "seed 2" in ensemble._repr_html_()
    assert piwsl.export_model(ensemble.directory).members == 2
    assert Path("both/ensemble-general.pt").exists()


@pytest.mark.slow
def test_a_search(cli, tmp_path):
    pytest.importorskip("optuna")
    random_water_file(tmp_path / "water.npz", frames=20)
    seen = []
    result = piwsl.tune(
        {"tune": {"trials": 2, "metric": "loss", "ranges": {"loss.pitc": {"low": 0.1, "high": 1.0}}}},
        data="water.npz",
        output="search",
        options={**SETTINGS, "data.units": "eV"},
        progress=seen.append,
    )
    assert [trial.number for trial in seen] == [0, 1]
    assert result.config is not None
    html = result._repr_html_()
    assert "loss.pitc" in html
    assert "data:image/png" in html
