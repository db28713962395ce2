"""A model with random weights: what a step costs does not depend on what was learned."""

from pathlib import Path

import torch

from piwsl.data.frames import Frame
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models import ModelConfig, build_network

REFERENCE_ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0, 22: -1600.0}


def random_model(path: Path, frame: Frame, network: str = "painn", channels: int = 128, **options: object) -> int:
    """Write a trained file of default size otherwise (PaiNN: 3 layers, 20 radial functions, 5 angstrom), float32.

    Returns:
        Number of weights.
    """
    torch.manual_seed(0)
    # As in the tables of docs/performance.md, which began with this size, and in SchNetPack.
    size = {"radial_size": 20} if network == "painn" else {}
    config = ModelConfig.model_validate({"network": network, "channels": channels, **size, **options})
    made = build_network(config)
    elements = config.options.get("elements", REFERENCE_ENERGIES)
    energies = {number: energy for number, energy in REFERENCE_ENERGIES.items() if number in elements}
    save_trained(TrainedModel(config, energies, 1.0, "float32", made.state_dict(), [frame]), path)
    return sum(weight.numel() for weight in made.parameters())
