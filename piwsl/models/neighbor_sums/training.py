"""The choice of neighbor sums for training."""

from importlib.util import find_spec

import torch

from piwsl.models.neighbor_sums.edge_list import EdgeList


def training_neighbor_sums(device: torch.device, mixed_precision: bool = False) -> tuple[EdgeList, str]:
    """Choose the fastest neighbor sums that can be differentiated for training on a device.

    Returns:
        The neighbor sums, and a line for the log with their name and the reason for the choice.
    """
    if device.type != "cpu":
        return EdgeList(), f"torch, on {device.type}"
    if mixed_precision:
        return EdgeList(), "torch (the compiled loops do not support mixed precision)"
    if find_spec("numba") is None:
        return EdgeList(), "torch (numba would make training on this CPU faster: piwsl[fast])"
    from piwsl.models.neighbor_sums.compiled import FusedEdgeList  # needs numba

    return FusedEdgeList(), "compiled loops (numba)"
