"""Small random models written as trained files."""

import torch

from piwsl.export.trained_file import DTYPES, TrainedModel, save_trained
from piwsl.models import ModelConfig, build_network
from tests.support.molecules import frame

REFERENCE_ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0}


def trained_model(network="painn", dtype="float32", frames=("CH3CH2OH", "H2O"), seed=0, **options):
    """A model with random weights; its check frames are real molecules."""
    torch.manual_seed(seed)
    config = ModelConfig(**{"network": network, "channels": 16, "layers": 2, "cutoff": 4.0, **options})
    tensors = build_network(config).to(DTYPES[dtype]).state_dict()
    return TrainedModel(
        config=config,
        reference_energies=REFERENCE_ENERGIES,
        scale=1.3,
        dtype=dtype,
        tensors=tensors,
        check_frames=[frame(name, seed=number) for number, name in enumerate(frames)],
        training={"data": "test"},
    )


def trained_file(path, **options):
    """Write such a model and return its path."""
    save_trained(trained_model(**options), path)
    return path
