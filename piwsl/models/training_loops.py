"""Selection of neighbor sums and tensor products for training."""

from importlib.util import find_spec

import torch
from torch import nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, use_neighbor_sums


def training_neighbor_sums(device: torch.device, mixed_precision: bool = False) -> tuple[EdgeList, str]:
    """Return the fastest neighbor sums that support training on a device.

    Returns:
        The neighbor sums, and a description of the choice for the log.
    """
    if device.type != "cpu":
        return EdgeList(), f"torch, on {device.type}"
    if mixed_precision:
        return EdgeList(), "torch (the compiled loops do not support mixed precision)"
    if find_spec("numba") is None:
        return EdgeList(), "torch (install piwsl[fast] with numba for faster training on CPUs)"
    from piwsl.models.neighbor_sums.compiled import FusedEdgeList  # requires numba

    return FusedEdgeList(), "compiled loops (numba)"


def use_in_training(network: nn.Module, neighbor_sums: EdgeList) -> None:
    """Replace the neighbor sums of a network and, if they are compiled, its tensor products.

    Args:
        network: Network, whose weights are unchanged.
        neighbor_sums: Result of `training_neighbor_sums`.
    """
    use_neighbor_sums(network, neighbor_sums)
    if type(neighbor_sums) is not EdgeList:
        from piwsl.models.networks.compiled_products import use_compiled_products  # requires numba

        use_compiled_products(network)
