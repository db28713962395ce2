"""The content of the trained file of a run: weights, description, and structures for checks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.systems import BUNDLED_LEVEL, SYSTEMS
from piwsl.export.trained_file import TrainedModel
from piwsl.models import Potential
from piwsl.training.config import TrainingConfig
from piwsl.training.frames import TrainingFrames
from piwsl.training.lora import merged_weights
from piwsl.training.metrics import Errors
from piwsl.training.start import StartingPoint

CHECK_FRAMES = 5


def trained_model(
    config: TrainingConfig,
    frames: TrainingFrames,
    potential: Potential,
    validation: Errors,
    test: Errors | None,
    start: StartingPoint | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    teacher: dict[str, Any] | None = None,
) -> TrainedModel:
    """Return the content of the trained file of a run.

    Args:
        config: Training configuration.
        frames: Training, validation and test frames.
        potential: Trained potential.
        validation: Errors on the validation frames.
        test: Errors on the test frames; None without test frames, or before the end of training.
        start: Starting point of the run.
        state: State of the training task. If given, its weights are used instead of the weights of ``potential``.
        teacher: Record of the teacher; None without a teacher.
    """
    origin = None if start is None else start.origin
    weights: Mapping[str, torch.Tensor] = potential.network.state_dict()
    if state is not None:
        weights = {name: state[f"potential.network.{name}"] for name in weights}
    weights = merged_weights(potential.network, weights)
    step = max(1, len(frames.validation) // CHECK_FRAMES)
    return TrainedModel(
        config=config.model,
        reference_energies={z: float(potential.reference_energies[z]) for z in potential.elements},
        scale=float(potential.scale),
        dtype=config.weights_dtype,
        tensors={name: value.detach().cpu().clone() for name, value in weights.items()},
        check_frames=frames.validation.frames[::step][:CHECK_FRAMES],
        training={
            "data": frames.source.name,
            "data_sha256": frames.sha256,
            "level": level_of(frames),
            "train_frames": len(frames.train),
            "loss": config.loss.model_dump(),
            "seed": config.seed,
            "labels": {purpose: asdict(counts) for purpose, counts in frames.labels.items()},
            "start": origin,
            "reference_energies": {} if start is None else dict(start.energy_sources),
            **({} if teacher is None else {"teacher": teacher}),
            **_foundation(origin, teacher),
            "validation": asdict(validation),
            "test": asdict(test) if test else None,
        },
        domain=frames.domain(config.model, level_of(frames)),
    )


def _foundation(*records: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entry of the first foundation model that the start or the teacher was made from."""
    found = (record["foundation"] for record in records if record and "foundation" in record)
    return {"foundation": foundation} if (foundation := next(found, None)) else {}


def level_of(frames: TrainingFrames) -> str | None:
    """Return the level of theory of the labels in a bundled system or a named data set; None for other sources."""
    if frames.source in [system.train for system in SYSTEMS.values()]:
        return BUNDLED_LEVEL
    name = str(frames.source)
    return dataset(name).level if is_dataset(name) else None
