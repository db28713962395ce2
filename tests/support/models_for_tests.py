"""Small random models written as trained files."""

from dataclasses import replace

import torch

from piwsl.export.heads import TrainedHead
from piwsl.export.trained_file import DTYPES, TrainedModel, save_trained
from piwsl.models import ModelConfig, build_network
from tests.support.molecules import frame

REFERENCE_ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0}


def small_config(network, layers=2, **options):
    """A network of any name, for H, C and O."""
    sizes = {"layers": layers}
    if network == "mace":
        sizes = {"elements": (1, 6, 8), "hidden_degrees": (0,), "largest_degree": 2, "correlations": (2,) * layers}
    return ModelConfig(network=network, **{**sizes, **options})


def trained_model(network="painn", dtype="float32", frames=("CH3CH2OH", "H2O"), seed=0, **options):
    """A model with random weights; its check frames are real molecules."""
    torch.manual_seed(seed)
    config = small_config(network, **{"channels": 16, "cutoff": 4.0, **options})
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


def model_with_heads(**options):
    """A model with the main level `high` and a further level `low`, whose head has no carbon."""
    model = trained_model(**options)
    other = trained_model(**{**options, "seed": 1})
    head = TrainedHead(
        name="low",
        reference_energies={1: -13.0, 8: -2030.0},
        tensors={name: value for name, value in other.tensors.items() if name.startswith("readout.")},
        check_frames=[frame("H2O", seed=5)],
        training={"data": "low.npz", "level": "PBE", "train_frames": 7},
    )
    return replace(model, training={"data": "test", "head": "high", "validation": {}}, heads=(head,))


def file_with_heads(path, **options):
    """Write such a model and return its path."""
    save_trained(model_with_heads(**options), path)
    return path
