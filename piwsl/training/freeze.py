"""Weights that stay fixed in training, by the beginnings of their names."""

import difflib

from torch import nn

from piwsl.errors import ConfigError


def freeze(network: nn.Module, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Take the gradient from all weights whose names are, or begin up to a dot with, one of the prefixes.

    ``messages.1`` fixes ``messages.1.filters.weight``, not ``messages.10.filters.weight``.

    Returns:
        Names of all fixed weights.

    Raises:
        ConfigError: a prefix fits no weight, or nothing is left to train.
    """
    weights = dict(network.named_parameters())
    for prefix in prefixes:
        matching = [name for name in weights if name == prefix or name.startswith(f"{prefix}.")]
        if not matching:
            near = difflib.get_close_matches(prefix, _beginnings(list(weights)), n=3, cutoff=0.4)
            known = near or list(dict.fromkeys(name.split(".")[0] for name in weights))
            raise ConfigError(f"start.freeze: no weight begins with {prefix!r}: near are {', '.join(known)}")
        for name in matching:
            weights[name].requires_grad_(False)
    frozen = tuple(name for name, weight in weights.items() if not weight.requires_grad)
    if len(frozen) == len(weights):
        raise ConfigError(f"start.freeze: {', '.join(prefixes)} fixes all weights: nothing is left to train")
    return frozen


def _beginnings(names: list[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)))
