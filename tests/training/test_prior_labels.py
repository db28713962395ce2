"""Reference energies and scale fit what the prior leaves of the labels; sources of reference energies are stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.export.trained_file import load_trained
from piwsl.models.build import build_prior
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.directory import CONFIG_FILE, stored_config
from piwsl.training.presets import resolved
from piwsl.training.prior_labels import prior_labels, without_prior
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential
from tests.support.molecules import frame

ELEMENTS = {1: -13.0, 6: -1030.0, 8: -2040.0}


@pytest.fixture
def priced(tmp_path):
    """Labels that are exactly the ZBL energy plus one energy for each element."""
    config = load_config(None, ["model.cutoff=4.0"]).model
    prior = build_prior(config, list(ELEMENTS))
    molecules = [frame(name, rattle=0.1, seed=seed) for name in ("H2O", "CH4", "CH3OH") for seed in range(10)]
    labeled = [
        Frame(one.species, one.positions, one.energy + sum(ELEMENTS[int(z)] for z in one.species), one.forces)
        for one in prior_labels(molecules, prior)
    ]
    path = tmp_path / "frames.extxyz"
    write_frames(FrameSet(labeled), path)
    return path, prior


def configured(path, *overrides):
    return load_config(
        None, [f"data.file={path}", "data.validation=3", "model.cutoff=4.0", "model.channels=4", *overrides]
    )


def test_the_fit_of_reference_energies_subtracts_the_prior(priced):
    config = configured(priced[0])
    point = starting_potential(config, training_frames(config))
    found = {z: float(point.potential.reference_energies[z]) for z in ELEMENTS}
    assert found == pytest.approx(ELEMENTS, abs=1e-4)
    # Without the prior, its energies would be a part of the reference energies.
    config = configured(priced[0], "model.zbl=false")
    point = starting_potential(config, training_frames(config))
    assert abs(float(point.potential.reference_energies[6]) - ELEMENTS[6]) > 0.1


def test_the_scale_is_that_of_forces_without_the_prior(priced):
    path, prior = priced
    frames = training_frames(configured(path))
    left = without_prior(list(frames.train), prior)
    assert max(float(np.abs(one.forces).max()) for one in left) < 1e-5
    # Nothing is left of these labels; with other forces, the RMS of the remaining forces is the scale.
    rng = np.random.default_rng(0)
    noisy = FrameSet(
        [
            Frame(one.species, one.positions, one.energy, one.forces + rng.normal(0, 0.5, one.forces.shape))
            for one in prior_labels(list(frames.train), prior)
        ]
    )
    point = starting_potential(configured(path), replace(frames, train=noisy))
    assert float(point.potential.scale) == pytest.approx(0.5, rel=0.1)


def test_prior_labels_are_those_of_the_potential(priced):
    _, prior = priced
    molecules = [frame("CH3OH", rattle=0.1), frame("H2O")]
    found = prior_labels(molecules, prior)
    for one, label in zip(molecules, found, strict=True):
        batch = collate([one], 4.0, torch.float64)
        positions = batch.positions.clone().requires_grad_(True)
        energy = prior(batch.species, batch.edges, batch.moved(positions).edge_vectors()).sum()
        (gradient,) = torch.autograd.grad(energy, positions)
        assert label.energy == pytest.approx(float(energy.detach()), rel=1e-12)
        np.testing.assert_allclose(label.forces, -gradient.numpy(), atol=1e-9)


@pytest.fixture
def waters(tmp_path):
    frames = [frame("H2O", rattle=0.05, seed=seed, labeled=True) for seed in range(30)]
    path = tmp_path / "water.extxyz"
    write_frames(FrameSet(frames), path)
    return path


QUICK = ("optimizer.steps=5", "optimizer.validation_interval=5", "model.layers=1", "threads=1", "loss.pisc=0")


def test_given_energies_are_used_logged_and_stored(waters, tmp_path):
    config = configured(waters, "data.reference_energies={H: -13.5, O: -2041.25}", *QUICK)
    result = run_training(config, tmp_path / "run")
    model = load_trained(result.model)
    assert model.reference_energies == {1: -13.5, 8: -2041.25}
    assert model.training["reference_energies"] == {"H": "configuration", "O": "configuration"}
    log = (tmp_path / "run" / "train.log").read_text()
    assert "reference energies [eV]: H -13.5000, O -2041.2500 (configuration)" in log
    assert stored_config(tmp_path / "run") == resolved(config)


@pytest.mark.parametrize("kind", ["yaml", "json", "extxyz"])
def test_energies_come_from_a_file(waters, tmp_path, kind):
    file = tmp_path / f"atoms.{kind}"
    if kind == "extxyz":
        none = np.full((1, 3), np.nan)
        atoms = [Frame(np.array([z]), np.zeros((1, 3)), energy, none) for z, energy in ((1, -13.5), (8, -2041.25))]
        write_frames(FrameSet(atoms), file)
    else:
        file.write_text(json.dumps({"H": -13.5, "O": -2041.25}))
    config = configured(waters, f"data.reference_energies={file}")
    point = starting_potential(config, training_frames(config))
    assert float(point.potential.reference_energies[8]) == -2041.25
    assert point.energy_line().endswith(f"(file atoms.{kind})")


def test_without_the_key_the_log_says_least_squares(waters):
    config = configured(waters)
    point = starting_potential(config, training_frames(config))
    assert point.energy_line().endswith("(least squares)")
    assert dict(point.energy_sources) == {"H": "least squares", "O": "least squares"}


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        ("{H: -13.5}", "contains H, but the frames also contain O: add the missing energies"),
        ("{H: -13.5, Ox: 1}", "'Ox' is not a chemical symbol: did you mean O?"),
        ("{H: .nan, O: 1}", "the energy of H is nan: give a finite number in eV"),
        ("{H: -13.5, O: much}", "the energy of O is much: give a finite number in eV"),
        ("{H: true, O: 1}", "the energy of H is True: give a finite number in eV"),
        ("absent.yaml", "absent.yaml: no such file"),
    ],
)
def test_bad_energies_are_one_line(waters, energies, message):
    with pytest.raises((ConfigError, DataError)) as caught:
        training_frames(configured(waters, f"data.reference_energies={energies}"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_bad_energy_is_named(waters, tmp_path):
    file = tmp_path / "atoms.yaml"
    file.write_text("{H: .inf, O: 1.0}")
    with pytest.raises(DataError, match=r"atoms\.yaml: the energy of H is inf"):
        training_frames(configured(waters, f"data.reference_energies={file}"))


def test_fine_tuning_with_given_energies(waters, tmp_path):
    result = run_training(configured(waters, *QUICK), tmp_path / "first")
    given = (f"start.init_from={result.model}", "data.reference_energies={H: -13.5, O: -2041.25}")
    config = configured(waters, *given)
    point = starting_potential(config, training_frames(config))
    assert float(point.potential.reference_energies[8]) == -2041.25
    keep = configured(waters, *given, "start.reference_energies=keep")
    with pytest.raises(ConfigError, match=r"keep contradicts data\.reference_energies: remove one of them"):
        starting_potential(keep, training_frames(keep))


def test_a_resumed_run_of_an_earlier_version_has_no_prior(waters, tmp_path):
    run_training(configured(waters, "model.zbl=false", *QUICK), tmp_path / "run")
    file = tmp_path / "run" / CONFIG_FILE
    text = file.read_text()
    assert "  zbl: false\n" in text
    file.write_text(text.replace("  zbl: false\n", ""))
    assert stored_config(tmp_path / "run").model.zbl is False
