"""Selection of neighbor sums for training."""

from importlib.util import find_spec

import torch

from piwsl.models.neighbor_sums.edge_list import EdgeList


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
