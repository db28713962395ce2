"""Choice of the weights that are trained: all weights, all except some, or low-rank changes of some."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from piwsl.errors import ConfigError
from piwsl.models.levels import LevelsPotential, head_names
from piwsl.models.potential import Potential
from piwsl.training.config import StartConfig
from piwsl.training.lora import add_low_rank, linear_maps


@dataclass(frozen=True)
class Trainable:
    """Names of the weights of a network that are not trained themselves.

    Attributes:
        frozen: Weights that do not change.
        low_rank: Weights to which training adds a low-rank change.
    """

    frozen: tuple[str, ...] = ()
    low_rank: tuple[str, ...] = ()


def choose_weights(model: Potential | nn.Module, start: StartConfig, untrained: Collection[str] = ()) -> Trainable:
    """Prepare the weights of a network for training with ``start.method``.

    The heads of several levels of theory are trained alike. With ``lora``, they are trained as a whole.

    Args:
        model: Potential, or network, with its initial weights. Weights that are not trained lose their gradient.
        start: Section `start` of the configuration.
        untrained: Names of weights with random values. With ``lora``, they are trained as a whole.

    Raises:
        ConfigError: A prefix matches no weight or no matrix, or no weight is left to train.
    """
    network = model.network if isinstance(model, Potential) else model
    heads = model.further_heads if isinstance(model, LevelsPotential) else []
    if start.training_method == "lora":
        whole = [name for name in head_names(network) if not _begins(name, start.freeze)] if heads else []
        chosen = _low_rank(network, start, {*untrained, *whole})
    else:
        chosen = Trainable(frozen=freeze(network, start.freeze))
    for head in heads:
        for name, weight in head.named_weights().items():
            weight.requires_grad_(network.get_parameter(name).requires_grad)
    return chosen


def freeze(network: nn.Module, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Freeze the weights whose name equals a prefix or begins with a prefix and a dot.

    ``messages.1`` freezes ``messages.1.filters.weight``, but not ``messages.10.filters.weight``.

    Returns:
        Names of all frozen weights.

    Raises:
        ConfigError: A prefix matches no weight, or all weights are frozen.
    """
    weights = dict(network.named_parameters())
    for prefix in prefixes:
        for name in _matching(list(weights), prefix, "start.freeze"):
            weights[name].requires_grad_(False)
    frozen = tuple(name for name, weight in weights.items() if not weight.requires_grad)
    if len(frozen) == len(weights):
        raise ConfigError(f"start.freeze ({', '.join(prefixes)}) freezes all weights: leave some weights trainable")
    return frozen


def _low_rank(network: nn.Module, start: StartConfig, untrained: Collection[str]) -> Trainable:
    weights = dict(network.named_parameters())
    names = list(weights)
    maps = linear_maps(network)
    targets = set(maps if not start.lora_targets else ())
    for prefix in start.lora_targets:
        matching = _matching(names, prefix, "start.lora_targets")
        # Any tensor of matrices can be named in full; a prefix stands for the linear layers below it.
        matrices = [prefix] if prefix in weights and weights[prefix].ndim > 1 else [n for n in matching if n in maps]
        if not matrices:
            raise ConfigError(f"start.lora_targets: {prefix} contains no linear layer: choose the name of another part")
        targets.update(matrices)
    for prefix in start.freeze:
        targets.difference_update(_matching(names, prefix, "start.freeze"))
    targets.difference_update(untrained)
    if not targets:
        raise ConfigError("start.freeze excludes all targets of start.method: lora: leave some weights trainable")
    low_rank = tuple(name for name in names if name in targets)
    add_low_rank(network, low_rank, start.lora_rank, start.lora_scale)
    for name in untrained:
        weights[name].requires_grad_(True)
    frozen = tuple(name for name in names if name not in targets and name not in untrained)
    return Trainable(frozen, low_rank)


def _matching(names: list[str], prefix: str, key: str) -> list[str]:
    """Return the names that equal a prefix or begin with the prefix and a dot.

    Raises:
        ConfigError: There are none.
    """
    matching = [name for name in names if _begins(name, (prefix,))]
    if not matching:
        near = difflib.get_close_matches(prefix, _beginnings(names), n=3, cutoff=0.4)
        known = near or list(dict.fromkeys(name.split(".")[0] for name in names))
        raise ConfigError(f"{key}: no weight begins with {prefix!r}: similar prefixes are {', '.join(known)}")
    return matching


def _begins(name: str, prefixes: Collection[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _beginnings(names: list[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)))
