"""The content of the trained file of a run: weights, description, and structures for checks."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from piwsl.data.frames import Frame, FrameSet
from piwsl.export.heads import TrainedHead
from piwsl.export.trained_file import TrainedModel
from piwsl.models import Potential
from piwsl.models.levels import LevelsPotential
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
    heads = _heads(config, frames, potential, start, state) if isinstance(potential, LevelsPotential) else ()
    return TrainedModel(
        config=config.model,
        reference_energies={z: float(potential.reference_energies[z]) for z in potential.elements},
        scale=float(potential.scale),
        dtype=config.weights_dtype,
        tensors={name: value.detach().cpu().clone() for name, value in weights.items()},
        check_frames=_some(frames.validation),
        training={
            "data": frames.source.name,
            "data_sha256": frames.sha256,
            "level": frames.level,
            "train_frames": len(frames.main),
            "loss": config.loss.model_dump(),
            "seed": config.seed,
            "labels": {purpose: asdict(counts) for purpose, counts in frames.labels.items()},
            "start": origin,
            "reference_energies": {} if start is None else dict(start.energy_sources),
            **({"head": frames.main_level} if heads else {}),
            **({} if teacher is None else {"teacher": teacher}),
            **_foundation(origin, teacher),
            **_labels_from(origin, frames),
            "validation": asdict(validation),
            "test": asdict(test) if test else None,
        },
        domain=frames.domain(config.model),
        heads=heads,
    )


def _heads(
    config: TrainingConfig,
    frames: TrainingFrames,
    potential: LevelsPotential,
    start: StartingPoint | None,
    state: Mapping[str, torch.Tensor] | None,
) -> tuple[TrainedHead, ...]:
    """Return the heads of the further levels. The arguments are those of `trained_model`."""
    heads = []
    for index, level in enumerate(frames.levels, start=1):
        head, table = potential.head(index), potential.energies_of_elements(index)
        weights = head.state_dict()
        if state is not None:
            weights = {name: state[f"potential.heads.{index - 1}.{name}"] for name in weights}
        training = {
            "data": level.source.name,
            "data_sha256": level.sha256,
            "level": level.level,
            "train_frames": len(level.frames),
            "labels": {"training": asdict(level.labels)},
            "reference_energies": {} if start is None else dict(start.heads[index - 1].energy_sources),
        }
        heads.append(
            TrainedHead(
                name=level.name,
                reference_energies={z: float(table[z]) for z in head.elements},
                tensors={
                    name: weights[f"weights.{place}"].detach().cpu().clone() for place, name in enumerate(head.names)
                },
                check_frames=_some(level.frames),
                training=training,
                domain=frames.domain(config.model, level),
            )
        )
    return tuple(heads)


def _some(frames: FrameSet) -> list[Frame]:
    """Return at most `CHECK_FRAMES` evenly spaced frames, for a potential with a single level."""
    some = frames.frames[:: max(1, len(frames) // CHECK_FRAMES)][:CHECK_FRAMES]
    return [replace(frame, level=0) for frame in some]


def _foundation(*records: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entry of the first foundation model that the start or the teacher was made from."""
    found = (record["foundation"] for record in records if record and "foundation" in record)
    return {"foundation": foundation} if (foundation := next(found, None)) else {}


def _labels_from(origin: dict[str, Any] | None, frames: TrainingFrames) -> dict[str, Any]:
    """Return the entry of the foundation models behind the labels of this run and of those that its start came from."""
    found = {*(origin or {}).get("labels_from", ()), *frames.train.census.labels_from}
    return {"labels_from": sorted(found)} if found else {}
