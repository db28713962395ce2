"""Training on two levels of theory from the configuration to the files: what the heads learn, resume, fine-tuning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import piwsl
from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained
from piwsl.models import ModelConfig
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.preflight import plan_run
from piwsl.training.run import finish_training, run_training
from piwsl.training.start import starting_potential, with_network_of_start
from tests.support.models_for_tests import trained_model
from tests.support.molecules import frame
from tests.support.two_levels import FIELDS, OFFSETS, labeled, write_water

pytestmark = pytest.mark.slow  # one training for all tests


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return {
        "low": write_water(folder / "low.npz", "low", range(100, 160)),
        "high": write_water(folder / "high.npz", "high", range(40)),
    }


@pytest.fixture(scope="module")
def two(files):
    """A configuration with the main level `high` and the further level `low`."""

    def configure(*options):
        return load_config(
            None,
            [
                f"data.file={files['high']}",
                "data.level=high",
                f"data.levels={{low: {files['low']}}}",
                "data.validation=10",
                "model.channels=16",
                "model.layers=1",
                "model.cutoff=3.0",
                "model.zbl=false",
                "loss.pitc=0",
                "loss.pisc=0",
                "optimizer.steps=200",
                "optimizer.batch_size=10",
                "optimizer.validation_interval=50",
                "optimizer.warmup=5",
                "optimizer.learning_rate=1e-2",
                "optimizer.ema_decay=0.98",
                "threads=1",
                *options,
            ],
        )

    return configure


@pytest.fixture(scope="module")
def run(two, tmp_path_factory):
    """A run of a few seconds."""
    return run_training(two(), tmp_path_factory.mktemp("run") / "train")


def predictions(model):
    batch = collate([frame("H2O", rattle=0.06, seed=seed) for seed in range(500, 540)], 3.0)
    energies, forces = model.potential()(*batch.graph)
    return energies.detach(), forces.detach()


def test_the_heads_learn_the_known_difference_of_the_levels(run):
    model = load_trained(run.model)
    assert model.levels == ["high", "low"]
    batch, low = labeled("low", range(500, 540))
    high = FIELDS["high"](batch)
    found = {name: predictions(model.at_level(name)) for name in ("high", "low")}
    expected = high.forces - low.forces
    difference = found["high"][1] - found["low"][1]
    assert (difference - expected).abs().mean() < 0.25 * expected.abs().mean()
    for name, truth in (("high", high), ("low", low)):
        assert (found[name][0] - truth.energies - OFFSETS[name]).abs().mean() < 0.2
        assert (found[name][1] - truth.forces).abs().mean() < 0.2 * truth.forces.abs().mean()


def test_the_trained_file_describes_its_levels(run, files):
    model = load_trained(run.model)
    assert (model.level, model.training["head"], model.training["train_frames"]) == ("high", "high", 30)
    (low,) = model.heads
    assert low.training["labels"]["training"]["forces"] == 60
    assert low.training["data"] == files["low"].name
    assert low.domain.frames == 60
    assert low.domain.level == "low"
    assert set(low.tensors) == {name for name in model.tensors if name.startswith("readout.")}
    assert any(not torch.equal(low.tensors[name], model.tensors[name]) for name in low.tensors)
    plain = model.at_level("low")
    assert (plain.level, plain.levels, plain.training["train_frames"]) == ("low", ["low"], 60)
    assert plain.training["validation"] is None
    summary = json.loads((run.directory / "summary.json").read_text())
    assert summary["frames"] == {"train": 30, "validation": 10, "test": 0, "level low": 60}
    assert summary["inputs"]["level low"] == str(files["low"])


def test_load_model_and_evaluate_choose_a_head(run, files):
    main = piwsl.evaluate(run.directory, str(files["low"]))
    low = piwsl.evaluate(run.directory, str(files["low"]), head="low")
    assert low.errors.energy_mae < 0.3 < 5 < main.errors.energy_mae
    assert "errors of the head high; the model also has low" in main.notes
    assert not any("head" in note for note in low.notes)
    same = piwsl.evaluate(piwsl.load_model(run.directory, level="low"), str(files["low"]))
    assert np.array_equal(same.energies, low.energies)
    assert "high, low" in piwsl.load_model(run.directory)._repr_html_()
    for function in (
        lambda: piwsl.evaluate(run.directory, str(files["low"]), head="PBE"),
        lambda: piwsl.load_model(run.directory, level="PBE"),
        lambda: piwsl.export_model(run.directory, head="PBE"),
    ):
        with pytest.raises(ConfigError, match=r"model\.pt: the model has no head 'PBE': choose one of high, low"):
            function()
    with pytest.raises(ConfigError, match="choose one of low"):
        piwsl.load_model(run.directory, level="low").at_level("high")
    with pytest.raises(ConfigError, match="it has a single one without a name"):
        trained_model().at_level("high")


def test_a_dry_run_lists_the_levels(two, tmp_path):
    plan = plan_run(two("optimizer.steps=30"), tmp_path / "dry")
    text = "\n".join(plan.lines)
    assert "level low          energies on 60, forces on 60, stress on 0 of 60 frames" in text
    assert "5 passes over the training frames of high, 2.5 of low (5 structures of a step)" in text
    assert "level low: a copy of the main head" in text
    plain = plan_run(two("optimizer.steps=30", "data.levels=null"), tmp_path / "dry")
    assert plan.trained["readout"] == 2 * plain.trained["readout"]
    assert not (tmp_path / "dry").exists()


def stopping_at(step):
    def stop(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def same_weights(one, other):
    one, other = load_trained(one), load_trained(other)
    pairs = zip((one, *one.heads), (other, *other.heads), strict=True)
    return all(torch.equal(a.tensors[name], b.tensors[name]) for a, b in pairs for name in a.tensors)


def test_a_resumed_run_equals_an_uninterrupted_one(two, tmp_path):
    options = ["optimizer.steps=12", "optimizer.validation_interval=4", "optimizer.accumulate=2", "loss.pitc=0.1"]
    config = two(*options)
    whole = run_training(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_training(config, tmp_path / "part", progress=stopping_at(7))
    best = shutil.copy(tmp_path / "part" / "model.pt", tmp_path / "best.pt")  # averaged weights, written on the way
    finished = finish_training(tmp_path / "part")
    assert same_weights(Path(best), finished.model)
    assert load_trained(finished.model).levels == ["high", "low"]
    assert not same_weights(whole.model, finished.model)
    part = run_training(config, tmp_path / "part", resume=True)
    assert same_weights(whole.model, part.model)
    assert part.validation == whole.validation


def started(config):
    config = with_network_of_start(config.model_copy(update={"model": ModelConfig()}))
    return config, starting_potential(config, training_frames(config))


def test_a_start_file_with_several_heads(two, run, files):
    """Heads of the same name are taken, others copy the main head."""
    model = load_trained(run.model)
    _, point = started(
        two(f"data.levels={{low: {files['low']}, other: {files['low']}}}", f"start.init_from={run.model}")
    )
    low, other = (point.potential.head(index).named_weights() for index in (1, 2))
    assert all(torch.equal(low[name], model.heads[0].tensors[name]) for name in low)
    assert all(torch.equal(other[name], model.tensors[name]) for name in other)
    assert all(torch.equal(value, model.tensors[name]) for name, value in point.potential.network.state_dict().items())
    assert point.origin["heads"] == {"high": "high", "low": "low", "other": None}
    # The level `low` was known, so that its energies hardly change.
    before = model.heads[0].reference_energies
    assert abs(float(point.potential.energies_of_elements(1)[1]) - before[1]) < 0.2
    assert any("head low of the file" in line for line in point.lines())
    # A new force head starts as a copy of that of the main level, the energy head from the file.
    direct = two(f"start.init_from={run.model}").model_copy(update={"model": ModelConfig(forces="direct")})
    direct = with_network_of_start(direct)
    head = starting_potential(direct, training_frames(direct)).potential.head(1).named_weights()
    assert torch.equal(head["readout.0.weight"], model.heads[0].tensors["readout.0.weight"])
    assert "force_head.mix.weight" in head
    # A run at one level takes the head of its name.
    _, point = started(two("data.levels=null", "data.level=low", f"start.init_from={run.model}"))
    state = point.potential.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.heads[0].tensors.items())
    assert point.origin["heads"] == {"low": "low"}
    assert "head low" in point.notes[0]


def test_low_rank_changes_are_merged_and_heads_are_whole(two, run, tmp_path):
    settings = (f"start.init_from={run.model}", "start.method=lora", "start.lora_rank=2", "optimizer.steps=20")
    config, _ = started(two(*settings))
    before, after = load_trained(run.model), load_trained(run_training(config, tmp_path / "lora").model)
    assert set(after.tensors) == set(before.tensors)
    assert set(after.heads[0].tensors) == set(before.heads[0].tensors)
    changed = {name for name in before.tensors if not torch.equal(before.tensors[name], after.tensors[name])}
    assert {"readout.0.weight", "readout.0.bias"} <= changed
    assert "embedding.weight" not in changed
    rank = torch.linalg.matrix_rank(
        after.tensors["first_message.filters.weight"] - before.tensors["first_message.filters.weight"]
    )
    assert rank <= 2
    heads = before.heads[0].tensors, after.heads[0].tensors
    assert all(not torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    # The errors of the fine-tuned heads are those of trained heads: nothing was lost in the merge.
    low = predictions(after.at_level("low"))[1]
    assert (low - predictions(before.at_level("low"))[1]).abs().mean() < 0.3


def test_an_exported_file_contains_one_head(run, tmp_path):
    for name in ("high", "low"):
        path = tmp_path / f"{name}.pt"
        exported = piwsl.export_model(run.model, path, head=name, dtype="float64")
        assert exported.verification.structures >= 5
        eager = load_trained(run.model).at_level(name).potential(dtype="float64")
        one = frame("H2O", seed=7)
        energy, forces = eager(*collate([one], 3.0, torch.float64).graph)
        result = piwsl.evaluate(path, [one])
        assert result.energies[0] == pytest.approx(float(energy.detach()), abs=1e-8)
        np.testing.assert_allclose(result.forces[0], forces.detach().numpy(), atol=1e-8)
    with pytest.raises(ConfigError, match=r"low\.pt is an exported file, which contains a single head"):
        piwsl.evaluate(tmp_path / "low.pt", [frame("H2O")], head="low")
