"""What a run leaves: the averaged weights of its best validation, as a trained file, and doubts about them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from piwsl.export.trained import TrainedModel
from piwsl.models.potential import Potential
from piwsl.training.directory import BEST
from piwsl.training.frames import TrainingFrames
from piwsl.training.metrics import Errors
from piwsl.training.sections import TrainingConfig

CHECK_FRAMES = 5
FLAT = 0.5  # spread of predicted energies over that of the labels
NOTABLE_SHARE = 0.2


def best_weights(output: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of the best validation."""
    stored = torch.load(output / BEST, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("potential."): value for name, value in stored.items()}


def doubts(errors: Errors, consistency_share: float) -> list[str]:
    """What the user should know although the run ended well."""
    ratio = errors.energy_spread_ratio
    if ratio is None or ratio >= FLAT:
        return []
    advice = "train longer"
    if consistency_share > NOTABLE_SHARE:
        advice = f"PITC and PISC made up to {consistency_share:.0%} of the loss: lower their coefficients"
    return [f"the predicted energies spread only {ratio:.2f} times as much as the labels: {advice}"]


def trained_model(
    config: TrainingConfig,
    frames: TrainingFrames,
    potential: Potential,
    validation: Errors,
    test: Errors | None,
    origin: dict[str, Any] | None = None,
) -> TrainedModel:
    """The trained file of a run; ``origin`` tells what it started from."""
    step = max(1, len(frames.validation) // CHECK_FRAMES)
    return TrainedModel(
        config=config.model,
        reference_energies={z: float(potential.reference_energies[z]) for z in potential.elements},
        scale=float(potential.scale),
        dtype=config.weights_dtype,
        tensors={name: value.detach().cpu().clone() for name, value in potential.network.state_dict().items()},
        check_frames=frames.validation.frames[::step][:CHECK_FRAMES],
        training={
            "data": frames.source.name,
            "data_sha256": frames.sha256,
            "train_frames": len(frames.train),
            "loss": config.loss.model_dump(),
            "seed": config.seed,
            "labels": {purpose: asdict(counts) for purpose, counts in frames.labels.items()},
            "start": origin,
            "validation": asdict(validation),
            "test": asdict(test) if test else None,
        },
    )
