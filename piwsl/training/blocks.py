"""Blocks of a network: its layers, and the parts before and after them."""

from dataclasses import dataclass

from torch import nn

from piwsl.errors import ConfigError


@dataclass(frozen=True)
class Block:
    """Part of a network whose weights belong together.

    Attributes:
        name: Beginning of the names of its weights, such as ``messages.0``.
        depth: 0 for parts before the layers, N + 1 for layer N, and the largest depth for parts after the layers.
    """

    name: str
    depth: int


def blocks_of_weights(network: nn.Module) -> dict[str, Block]:
    """Return the block of each weight of a network, by the name of the weight.

    The layers are the modules of the outermost `torch.nn.ModuleList` objects whose modules consist of further modules.
    Other parts are before or after the layers in the order in which the network registers them.
    """
    names = [name for name, _ in network.named_parameters()]
    layers = _layers(network)
    inside = [next((layer for layer in layers if name.startswith(f"{layer}.")), None) for name in names]
    first = next((index for index, layer in enumerate(inside) if layer is not None), len(names))
    last = max(layers.values(), default=-1) + 2
    containers = {layer.split(".")[0] for layer in layers}
    result = {}
    for index, (name, layer) in enumerate(zip(names, inside, strict=True)):
        if layer is not None:
            result[name] = Block(layer, layers[layer] + 1)
        else:
            parts = name.split(".")
            length = next(iter(layers)).count(".") if parts[0] in containers else 1
            result[name] = Block(".".join(parts[:length]), 0 if index < first else last)
    return result


def _layers(network: nn.Module) -> dict[str, int]:
    """Return the index of each layer by its name. Lists that are nested more deeply than others are ignored."""
    lists = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and all(any(layer.children()) for layer in module)
    ]
    level = min((name.count(".") for name, _ in lists), default=0)
    outermost = [(name, module) for name, module in lists if name.count(".") == level]
    return {f"{name}.{index}": index for name, module in outermost for index in range(len(module))}


def rate_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each block by its name, 1 for the uppermost blocks.

    Args:
        network: Energy network.
        decay: Factor from each layer to the layer below.

    Raises:
        ConfigError: The network has no layers.
    """
    depths = {block.name: block.depth for block in blocks_of_weights(network).values()}
    top = max(depths.values(), default=0)
    if not top:
        raise ConfigError("start.layer_decay: the network has no list of layers: set it to 1")
    return {name: decay ** (top - depth) for name, depth in sorted(depths.items(), key=lambda item: item[1])}
