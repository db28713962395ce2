"""LoRA: only low-rank changes are trained, and the trained file contains plain weights."""

from dataclasses import replace

import pytest
import torch

from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, ElementError
from piwsl.export.trained_file import load_trained
from piwsl.models import ModelConfig, build_network
from piwsl.training.config import StartConfig, load_config
from piwsl.training.data import training_frames
from piwsl.training.lora import add_low_rank, linear_maps, merged_weights
from piwsl.training.preflight import plan_run
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential, with_network_of_start
from piwsl.training.trainable import choose_weights
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return trained_file(tmp_path_factory.mktemp("lora") / "model.pt")


@pytest.fixture
def lora(small, file):
    def configure(*overrides):
        settings = (f"start.init_from={file}", "start.method=lora", "start.lora_rank=2", "optimizer.steps=20")
        config = small(*settings, "loss.pisc=0", *overrides)
        return with_network_of_start(config.model_copy(update={"model": ModelConfig()}))

    return configure


def network_of(name="painn", **options):
    torch.manual_seed(0)
    return build_network(ModelConfig(network=name, **options))


@pytest.mark.parametrize("name", ["painn", "tensornet", "so3lr", "mace"])
def test_merged_weights_give_the_energies_of_the_changed_network(name):
    from piwsl.data.batch import collate

    elements = {"elements": [1, 8]} if name == "mace" else {}
    network = network_of(name, channels=8, **elements).double()
    plain = {key: value.clone() for key, value in network.state_dict().items()}
    maps = linear_maps(network)
    batch = collate([frame("H2O", seed=seed) for seed in range(2)], network.cutoff, torch.float64)
    neutral = (torch.zeros(2, 2, dtype=torch.float64),) if name == "so3lr" else ()
    arguments = (batch.species, batch.edges, batch.edge_vectors(), batch.structure_index, *neutral)
    before = network(*arguments).detach()
    add_low_rank(network, maps, 3, 0.5)
    assert torch.equal(network(*arguments).detach(), before)  # no change before training
    for key, value in network.named_parameters():
        if key.endswith(".up"):
            torch.nn.init.normal_(value, std=0.1)
    after = network(*arguments).detach()
    assert not torch.allclose(after, before)
    merged = merged_weights(network, network.state_dict())
    assert set(merged) == set(plain)
    other = network_of(name, channels=8, **elements).double()
    other.load_state_dict(merged)
    assert torch.allclose(other(*arguments).detach(), after, rtol=1e-12, atol=1e-14)
    changes = {key: merged[key] - plain[key] for key in plain}
    assert {key for key, change in changes.items() if bool(change.any())} == set(maps)
    assert all(torch.linalg.matrix_rank(changes[key]) <= 3 for key in maps)


def test_stacks_of_matrices_have_a_change_each():
    network = network_of("so3lr", channels=8)
    name = "transformer.layers.1.attention.feature_maps"
    start = StartConfig(init_from="model.pt", method="lora", lora_targets=(name, "energy"))
    chosen = choose_weights(network, start)
    assert chosen.low_rank == (name, "energy.network.0.weight", "energy.network.2.weight")
    change = dict(network.named_modules())["transformer.layers.1.attention.parametrizations.feature_maps.0"]
    assert change.up.shape[0] == network.transformer.layers[1].attention.feature_maps.shape[0]
    assert "energy.factor.weight" in chosen.frozen
    trained = {key for key, value in network.named_parameters() if value.requires_grad}
    assert all(key.endswith((".up", ".down")) for key in trained)


@pytest.mark.slow
def test_only_low_rank_changes_are_trained_and_the_file_is_ordinary(lora, file, tmp_path):
    before = load_trained(file).tensors
    config = lora("start.freeze=[readout]", "loss.pitc=0.1")
    result = run_training(config, tmp_path / "run")
    model = load_trained(result.model)
    assert set(model.tensors) == set(before)
    changes = {name: model.tensors[name] - before[name] for name in before}
    changed = {name for name, change in changes.items() if bool(change.any())}
    assert changed
    for name in changed:
        assert name.endswith(".weight")
        assert not name.startswith(("embedding", "readout"))
        # Differences in float32 have a small rest beyond the rank of the change.
        singular = torch.linalg.svdvals(changes[name].double())
        assert float(singular[2:].sum()) < 1e-2 * float(singular[0])
    assert model.training["start"]["method"] == "lora"
    assert model.training["start"]["lora_rank"] == 2
    # The errors in the file are those of its plain weights.
    from piwsl.training.evaluate import evaluate_potential

    frames = training_frames(config).validation
    errors = evaluate_potential(model.potential(), frames, model.cutoff, torch.float32)
    assert errors.force_mae == pytest.approx(result.validation.force_mae, rel=1e-4)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "trained by a low-rank change (" in log


@pytest.mark.slow
def test_a_lora_run_resumes_to_the_same_weights(lora, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 25:
            raise StopError

    config = lora("optimizer.steps=40")
    whole = load_trained(run_training(config, tmp_path / "whole").model).tensors
    with pytest.raises(StopError):
        run_training(config, tmp_path / "part", progress=stop)
    part = load_trained(run_training(config, tmp_path / "part", resume=True).model).tensors
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_weights_that_the_file_lacks_are_trained_as_a_whole(lora):
    config = lora()
    config = config.model_copy(update={"model": ModelConfig(**(config.model.model_dump() | {"forces": "direct"}))})
    point = starting_potential(config, training_frames(config))
    network = point.potential.network
    assert all(weight.requires_grad for weight in network.force_head.parameters())
    assert not any(name.startswith("force_head") for name in (*point.low_rank, *point.frozen))
    assert not network.embedding.weight.requires_grad


def test_the_preflight_counts_low_rank_weights(lora, tmp_path):
    plan = plan_run(lora("start.lora_targets=[updates]"), tmp_path / "run")
    assert set(plan.low_rank) == {"updates.0"}
    assert not plan.trained
    expected = 2 * sum(sum(shape) for shape in [(32, 16), (16, 32), (48, 16)])
    assert plan.low_rank["updates.0"] == expected
    assert any(line.startswith("weights") and f"{expected} low-rank" in line for line in plan.lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["start.lora_targets=[update]"], "start.lora_targets: no weight begins with 'update': similar .* updates"),
        (["start.lora_targets=[embedding]"], "start.lora_targets: embedding contains no linear layer"),
        (
            ["start.lora_targets=[readout]", "start.freeze=[readout]"],
            "start.freeze excludes all targets of start.method: lora",
        ),
    ],
)
def test_targets_that_are_not_there_are_refused(lora, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        run_training(lora(*settings), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_new_elements_are_refused_because_their_embedding_would_stay_random(lora):
    config = lora()
    frames = training_frames(config)
    chlorine = [frame("CH3Cl", seed=seed, labeled=True) for seed in range(4)]
    with pytest.raises(ElementError, match=r"not trained on Cl: .* lora keeps their embedding fixed"):
        starting_potential(config, replace(frames, train=FrameSet([*frames.train, *chlorine])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["start.method=lora"], "start.method: lora changes the weights of a trained file: set start.init_from"),
        (["start.method=freeze"], "start.method: freeze requires weights to keep fixed: set start.freeze"),
        (["start.method=full", "start.freeze=[embedding]"], "full trains all weights: remove start.freeze"),
        (["start.lora_rank=4"], "start.lora_rank has no effect"),
        (["start.lora_targets=[readout]"], "start.lora_targets has no effect"),
        (["start.method=lor"], "start.method = 'lor': it must be 'full', 'lora', 'freeze' or 'gauss_newton'"),
    ],
)
def test_methods_that_do_not_fit_together_are_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(None, settings)
    assert "\n" not in str(error.value)


def test_the_method_follows_from_the_frozen_weights():
    assert StartConfig().training_method == "full"
    assert StartConfig(freeze=("embedding",)).training_method == "freeze"
    assert StartConfig(freeze=("embedding",), method="freeze").training_method == "freeze"
