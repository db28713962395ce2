"""Fine-tuning: what is loaded, what is new, reference energies at the new level, fixed weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, ElementError, ModelFileError, RunDirectoryError
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.models import ModelConfig
from piwsl.runs.files import sha256
from piwsl.training.data import training_frames
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential, with_network_of_start
from tests.support.models_for_tests import trained_file, trained_model
from tests.support.molecules import frame

PLAIN = ("loss.pitc=0", "loss.pisc=0", "optimizer.steps=20")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """PaiNN, 16 channels, 2 layers, cutoff 4 A, for H, C and O."""
    return trained_file(tmp_path_factory.mktemp("start") / "model.pt")


@pytest.fixture
def fine_tuned(small, file):
    """A configuration that begins at this file, its network left at the defaults."""

    def configure(*overrides):
        config = small(f"start.init_from={file}", *PLAIN, *overrides)
        named = {key: getattr(config.model, key) for key in ("layers", "forces") if f"model.{key}" in str(overrides)}
        return with_network_of_start(config.model_copy(update={"model": ModelConfig(**named)}))

    return configure


def start(config, **changes):
    frames = training_frames(config)
    return starting_potential(config, replace(frames, **changes)), replace(frames, **changes)


def energies(potential, frames, config):
    from piwsl.training.evaluate import predictions

    found = predictions(potential, frames, config.model.cutoff, torch.float32)
    return np.concatenate([prediction.energies.detach().numpy() for prediction, _ in found])


def test_the_network_is_that_of_the_file_and_all_weights_are_loaded(fine_tuned, file):
    config = fine_tuned()
    trained = load_trained(file)
    assert config.model == trained.config
    assert with_network_of_start(config) == config
    point, _ = start(config)
    tensors = point.potential.network.state_dict()
    assert all(torch.equal(tensors[name], value) for name, value in trained.tensors.items())
    assert set(point.loaded) == set(trained.tensors)
    assert (point.missing, point.unexpected, point.wrong_shape, point.frozen) == ((), (), (), ())
    assert float(point.potential.scale) == trained.scale


@pytest.mark.slow
def test_refitted_reference_energies_start_at_zero_mean_error(fine_tuned):
    point, frames = start(fine_tuned())
    labels = np.array([one.energy for one in frames.train])
    assert abs((energies(point.potential, frames.train, fine_tuned()) - labels).mean()) < 1e-4
    assert "mean error" in point.notes[-1]
    for symbol, number, before in (("H", 1, -13.6), ("O", 8, -2042.0)):
        after = float(point.potential.reference_energies[number])
        assert f"{symbol} {after:.4f} (shift {after - before:+.4f})" in point.notes[-1]
    kept, _ = start(fine_tuned("start.reference_energies=keep"))
    assert abs((energies(kept.potential, frames.train, fine_tuned()) - labels).mean()) > 1
    assert float(kept.potential.reference_energies[6]) == -1030.0
    assert kept.potential.elements == [1, 6, 8]
    # No frame holds carbon: nobody knows its energy at the new level.
    assert point.potential.elements == [1, 8]
    assert any("elements removed from the model: C" in note for note in point.notes)


def test_without_energies_the_reference_energies_are_those_of_the_file(fine_tuned):
    config = fine_tuned("loss.energy=0")
    frames = training_frames(config)
    hidden = FrameSet([replace(one, energy=np.nan) for one in frames.train])
    point, _ = start(config, train=hidden)
    assert float(point.potential.reference_energies[8]) == -2042.0


@pytest.fixture
def with_atoms(water_file, tmp_path):
    """Water, and one atom of hydrogen and of oxygen."""
    water = read_frames(water_file)
    nan = np.full((1, 3), np.nan)
    atoms = [Frame(np.array([z]), np.zeros((1, 3)), energy, nan) for z, energy in ((1, -13.0), (8, -1990.0))]
    write_frames([*water, *atoms], tmp_path / "atoms.xyz")
    return tmp_path / "atoms.xyz"


@pytest.mark.parametrize(("mode", "reason"), [("refit", "fine-tuning refits them; set"), ("keep", "energies: keep")])
def test_fine_tuning_says_that_single_atoms_are_not_reference_energies(fine_tuned, with_atoms, mode, reason):
    config = fine_tuned(f"data.file={with_atoms}", f"start.reference_energies={mode}")
    point, frames = start(config)
    (note,) = [note for note in frames.report.notes if "single atom" in note]
    assert "are not used as reference energies" in note
    assert reason in note
    assert float(point.potential.reference_energies[1]) != -13.0
    assert frames.domain(config.model).determined is False  # one composition, two elements
    assert len(frames.main) + len(frames.validation) + len(frames.test) == 60


def test_fine_tuning_uses_the_single_atoms_of_a_given_file(fine_tuned, with_atoms):
    config = fine_tuned(f"data.file={with_atoms}", f"data.reference_energies={with_atoms}")
    point, frames = start(config)
    assert [float(point.potential.reference_energies[z]) for z in (1, 8)] == [-13.0, -1990.0]
    assert frames.domain(config.model).determined is True


def test_a_level_says_that_single_atoms_are_not_its_reference_energies(fine_tuned, with_atoms):
    config = fine_tuned(f"data.levels={{PBE: {{file: {with_atoms}}}}}")
    frames = training_frames(config)
    assert frames.levels[0].atom_energies == {}
    assert any(
        "2 frames contain a single atom, whose energy is not used (fine-tuning refits" in note
        for note in frames.report.notes
    )


def test_an_absent_force_head_and_another_depth_are_listed(fine_tuned):
    point, _ = start(fine_tuned("model.forces=direct"))
    assert point.missing
    assert all(name.startswith("force_head.") for name in point.missing)
    assert any("initialized, not in the file" in line and "force_head" in line for line in point.lines())
    shallow, _ = start(fine_tuned("model.layers=1"))
    assert shallow.missing == ()
    assert {name.split(".")[0] for name in shallow.unexpected} == {"messages", "updates"}
    assert any("model.layers is 2 in the file, 1 here" in note for note in shallow.notes)


def test_direct_forces_of_the_file_are_kept_unless_named(small, file, tmp_path):
    direct = trained_model(forces="direct")
    save_trained(direct, tmp_path / "direct.pt")
    config = small(f"start.init_from={tmp_path / 'direct.pt'}")
    silent = config.model_copy(update={"model": ModelConfig()})
    assert with_network_of_start(silent).model.forces == "direct"
    named = with_network_of_start(config.model_copy(update={"model": ModelConfig(forces="conservative")}))
    assert named.model.forces == "conservative"
    assert with_network_of_start(named) == named
    point, _ = start(named)
    assert all(name.startswith("force_head.") for name in point.unexpected)


def test_another_network_or_width_is_refused_with_the_differences(small, file):
    for override, message in (
        ("model.channels=8", "model.channels is 16 in the file, 8 here"),
        ("model.network=schnet", "model.network is painn in the file, schnet here"),
    ):
        config = with_network_of_start(small(f"start.init_from={file}", override))
        with pytest.raises(ConfigError, match=message):
            start(config)
    with pytest.raises(ModelFileError, match="no such file"):
        with_network_of_start(small("start.init_from=none.pt"))


def test_new_elements_are_listed_or_refused(fine_tuned):
    chlorine = [frame("CH3Cl", seed=seed, labeled=True) for seed in range(4)]
    config = fine_tuned()
    frames = training_frames(config)
    more = FrameSet([*frames.train, *chlorine])
    point, _ = start(config, train=more)
    assert point.potential.elements == [1, 6, 8, 17]
    assert any("new elements" in note and "Cl" in note for note in point.notes)
    with pytest.raises(ElementError, match="not trained on Cl"):
        start(fine_tuned("start.reference_energies=keep"), train=more)
    with pytest.raises(ElementError, match=r"remove embedding from start\.freeze"):
        start(fine_tuned("start.freeze=[embedding]"), train=more)


@pytest.mark.slow
def test_fixed_weights_do_not_move(fine_tuned, file, tmp_path):
    before = load_trained(file).tensors
    result = run_training(fine_tuned("start.freeze=[embedding, messages.0]"), tmp_path / "run")
    after = load_trained(result.model)
    moved = {name for name, value in after.tensors.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("embedding", "messages.0")) for name in moved)
    assert moved == {name for name in before if not name.startswith(("embedding", "messages.0"))}
    assert after.training["start"]["init_from"] == "model.pt"
    assert after.training["start"]["freeze"] == ["embedding", "messages.0"]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "loaded (" in log
    assert "frozen (" in log


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        ("[embeding]", "no weight begins with 'embeding': similar prefixes are embedding"),
        ("[message]", "no weight begins with 'message'"),
        ("[messages.00]", "similar prefixes are messages.0"),
        ("[embedding, first_message, first_update, messages, updates, readout]", "leave some weights trainable"),
    ],
)
def test_wrong_freeze_is_refused(fine_tuned, tmp_path, prefixes, message):
    with pytest.raises(ConfigError, match=message):
        run_training(fine_tuned(f"start.freeze={prefixes}"), tmp_path / "run")


@pytest.mark.slow
def test_a_fine_tuned_run_resumes_with_the_configuration_it_was_given(fine_tuned, file, tmp_path):
    given = fine_tuned().model_copy(update={"model": ModelConfig()})
    result = run_training(given, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    again = run_training(given, tmp_path / "run", resume=True)
    assert again.validation == result.validation
    assert summary["result"] == "completed"
    assert summary["start"]["init_from_sha256"] == sha256(file)
    kept = given.model_copy(update={"start": given.start.model_copy(update={"reference_energies": "keep"})})
    with pytest.raises(RunDirectoryError, match=r"start\.reference_energies was refit, is keep"):
        run_training(kept, tmp_path / "run", resume=True)
