"""Blocks of the networks, and learning rates that fall from the readout to the embedding."""

import pytest
import torch
from torch import nn

from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained
from piwsl.models import ModelConfig, build_network
from piwsl.training.blocks import blocks_of_weights, rate_factors
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.distributed.processes import Processes
from piwsl.training.preparation import prepare
from piwsl.training.run import run_training
from piwsl.training.start import with_network_of_start
from tests.support.models_for_tests import trained_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """PaiNN with two layers; the second is messages.0 and updates.0."""
    return trained_file(tmp_path_factory.mktemp("blocks") / "model.pt")


@pytest.fixture
def decaying(small, file):
    def configure(*overrides):
        config = small(f"start.init_from={file}", "start.layer_decay=0.5", "loss.pisc=0", *overrides)
        return with_network_of_start(config.model_copy(update={"model": ModelConfig()}))

    return configure


@pytest.mark.parametrize(
    "name", ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "so3lr", "mace"]
)
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_layers_are_between_the_embedding_and_the_readout(name, forces):
    try:
        network = build_network(ModelConfig(network=name, forces=forces))
    except ConfigError:
        pytest.skip("no force head")
    depths = {}
    for block in blocks_of_weights(network).values():
        depths[block.name] = block.depth
    top = max(depths.values())
    heads = [name for name in depths if name.startswith(("readout", "energy", "force_head"))]
    assert heads
    assert all(depths[name] == top for name in heads)
    assert all(depth == 0 for name, depth in depths.items() if name.endswith("embedding"))
    layers = {name: depth for name, depth in depths.items() if name.rpartition(".")[2].isdigit()}
    assert set(layers.values()) == set(range(1, top))
    assert all(depth == int(name.rpartition(".")[2]) + 1 for name, depth in layers.items())


def test_factors_fall_by_one_power_a_layer():
    factors = rate_factors(build_network(ModelConfig(network="painn", layers=3)), 0.5)
    assert factors["readout"] == 1
    assert factors["messages.1"] == factors["updates.1"] == 0.5
    assert factors["messages.0"] == factors["updates.0"] == 0.25
    assert factors["embedding"] == factors["first_message"] == 0.125
    with pytest.raises(ConfigError, match="the network has no list of layers"):
        rate_factors(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), 0.5)


def test_the_optimizer_has_a_rate_for_each_layer(decaying, tmp_path):
    config = decaying("start.freeze=[readout.0]")
    run = prepare(config, training_frames(config), tmp_path / "run", Processes(), torch.device("cpu"))
    optimizer = run.task.build_optimizer()
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    names = dict(run.start.potential.network.named_parameters())
    peak = config.optimizer.learning_rate
    assert rates[id(names["readout.2.weight"])] == peak
    assert rates[id(names["updates.0.mix.weight"])] == 0.5 * peak
    assert rates[id(names["embedding.weight"])] == 0.25 * peak
    assert id(names["readout.0.weight"]) not in rates
    assert len(rates) == len(names) - 2
    assert any(fact.startswith("rates: ") and "messages.0 x 0.5" in fact for fact in run.facts)


@pytest.mark.slow
def test_lower_layers_move_less(decaying, file, tmp_path):
    """The steps of Adam have the size of the learning rate, so the moves show the factors."""
    config = decaying("start.layer_decay=0.1", "optimizer.steps=10", "optimizer.ema_decay=0", "loss.pitc=0")
    result = run_training(config, tmp_path / "run")
    before, model = load_trained(file).tensors, load_trained(result.model)

    def move(name):
        return float((model.tensors[name] - before[name]).abs().max())

    assert model.training["start"]["layer_decay"] == 0.1
    assert 0 < move("first_update.mix.weight") < 0.3 * move("updates.0.mix.weight")
    assert move("updates.0.mix.weight") < 0.3 * move("readout.0.weight")


@pytest.mark.slow
def test_a_run_with_layer_decay_and_lora_resumes_to_the_same_weights(decaying, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 25:
            raise StopError

    config = decaying("optimizer.steps=40", "start.method=lora", "optimizer.gradient_clip=0.1")
    whole = load_trained(run_training(config, tmp_path / "whole").model).tensors
    with pytest.raises(StopError):
        run_training(config, tmp_path / "part", progress=stop)
    part = load_trained(run_training(config, tmp_path / "part", resume=True).model).tensors
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_all_groups_are_clipped_together(decaying, tmp_path):
    config = decaying("optimizer.gradient_clip=0.5", "loss.pitc=0")
    run = prepare(config, training_frames(config), tmp_path / "run", Processes(), torch.device("cpu"))
    optimizer = run.task.build_optimizer()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    run.task._record.add(torch.tensor(1.0), {}, torch.tensor([0]))
    run.task.configure_gradient_clipping(optimizer)
    norm = torch.cat([weight.grad.ravel() for weight in weights]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["start.layer_decay=0.5"],
            r"start\.layer_decay slows the lower layers of a trained file: set start\.init_from",
        ),
        (["start.layer_decay=0"], r"start\.layer_decay = 0: it must be greater than 0"),
        (["start.layer_decay=2"], r"start\.layer_decay = 2: it must be at most 1"),
    ],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, settings)
