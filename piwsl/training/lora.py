"""Low-rank adaptation (LoRA, Hu et al. 2021): train a low-rank change of each weight matrix instead of the matrix.

The change is a parametrization of PyTorch, so that networks need no code for it. A trained file contains the sum of the
matrix and its change, and is thus an ordinary file.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """Low-rank change of a matrix, or of a stack of matrices. It is zero before training.

    Args:
        weight: Matrix (..., O, I) that is changed.
        rank: Rank of the change. It is reduced to the smaller side of the matrix.
        scale: Factor of the change.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        *stack, rows, columns = weight.shape
        rank = min(rank, rows, columns)
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(*stack, rank, columns).normal_(std=columns**-0.5))
        self.up = nn.Parameter(weight.new_zeros(*stack, rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed matrix (..., O, I)."""
        return changed(weight, self.up, self.down, self.scale)


def changed(weight: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    """Return ``weight + scale * up @ down`` (..., O, I), with up (..., O, R) and down (..., R, I)."""
    return weight + scale * (up @ down)


def linear_maps(network: nn.Module) -> list[str]:
    """Return the names of the weight matrices of all linear layers."""
    return [
        f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]


def add_low_rank(network: nn.Module, names: Iterable[str], rank: int, scale: float) -> None:
    """Fix all weights of a network and add a trainable change to the named matrices.

    Args:
        network: Network before training.
        names: Names of tensors with two or more dimensions, of which the last two are the matrix.
        rank: Rank of each change.
        scale: Factor of each change.
    """
    network.requires_grad_(False)
    for name in names:
        path, _, own = name.rpartition(".")
        module = network.get_submodule(path)
        parametrize.register_parametrization(module, own, LowRank(module.get_parameter(own).detach(), rank, scale))


def merged_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in which each matrix contains its low-rank change, under the names of the plain network.

    Args:
        network: Network, with or without low-rank changes.
        weights: Values of its state, such as averaged weights.
    """
    merged = dict(weights)
    for path, module in network.named_modules():
        if not isinstance(module, LowRank):
            continue
        stored, _, _ = path.rpartition(".")  # LAYER.parametrizations.NAME
        layer, _, own = stored.rpartition(".parametrizations.")
        layer, own = (layer, own) if own else ("", stored.removeprefix("parametrizations."))
        original = merged.pop(f"{stored}.original")
        up, down = merged.pop(f"{path}.up"), merged.pop(f"{path}.down")
        with torch.no_grad():
            merged[f"{layer}.{own}" if layer else own] = changed(original, up, down, module.scale)
    return merged
