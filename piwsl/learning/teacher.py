"""The teachers of a round: an ensemble that is trained on all labels so far."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.export.trained_file import ENSEMBLE_FILE
from piwsl.learning.settings import FEWEST_LABELS, LearnSettings
from piwsl.runs.config import merged
from piwsl.training.committee import committee_errors
from piwsl.training.config import GAUSS_NEWTON, load_config
from piwsl.training.directory import SPLIT_FILE
from piwsl.training.ensemble import train_ensemble
from piwsl.training.metrics import Errors
from piwsl.training.start import start_file
from piwsl.training.stored_split import stored_split
from piwsl.training.walls import kind_of_walls

_HELD_BACK = 0.1  # fraction of the labels
_FEWEST_HELD_BACK = 3
# Fine-tuning: steps of a few frames at a low rate.
_FINE_TUNING = {
    "optimizer": {"learning_rate": 5e-4, "batch_size": 5, "ema_decay": 0.99, "validation_interval": 50, "warmup": 50}
}
_FROM_SCRATCH: dict[str, Any] = {"optimizer": {"batch_size": 5, "validation_interval": 100}}
# With few labels of molecules, ACE has much smaller errors than the default network (docs/results.md).
_NETWORK = "ace"
_ACE: dict[str, Any] = {
    "model": {"network": _NETWORK, "channels": 128, "layers": 2, "radial_size": 8},
    "optimizer": {**_FROM_SCRATCH["optimizer"], "learning_rate": 3e-3, "weight_decay": 0.01, "ema_decay": 0.99},
}
_DIGITS = 1e-5  # eV, angstrom
_MOST_STEPS = 100_000  # a limit for tiny molecules; the time ends training before


@dataclass(frozen=True)
class Teachers:
    """Trained ensemble.

    Attributes:
        models: Trained files of the members.
        held_back: Labeled frames that no member was trained on.
    """

    models: list[Path]
    held_back: FrameSet


def teacher_training(settings: LearnSettings, start: Path | None, periodic: bool) -> dict[str, Any]:
    """Return the training configuration of the teachers, without data, walls and duration.

    Args:
        settings: Settings of the job.
        start: Trained file to fine-tune; None for random weights.
        periodic: Whether the structure is periodic.

    Raises:
        ConfigError: ``teacher.training`` does not fit the network.
    """
    own = settings.teacher.training
    named = own.get("model", {}).get("network")
    begin: dict[str, Any] = {}
    if start is not None:
        sections: dict[str, Any] = (
            {"start": {"method": GAUSS_NEWTON}} if settings.labels.energies_only else _FINE_TUNING
        )
        begin = {"start": {"init_from": str(start)}, "model": {"network": start_file(start)[0].config.network}}
    else:
        sections = _ACE if named == _NETWORK or (named is None and not periodic) else _FROM_SCRATCH
    sections = merged(sections, own)
    try:
        load_config(None, base=merged(begin, sections))
    except ConfigError as error:
        raise ConfigError(f"teacher.training: {str(error).removeprefix('options: ')}") from None
    return sections


def train_teachers(
    frames: Sequence[Frame],
    settings: LearnSettings,
    start: Path | None,
    minutes: float,
    folder: Path,
    progress: bool | None = None,
) -> Teachers:
    """Train the teachers on labeled frames, or continue after an interruption.

    Members are trained side by side, in as many processes as there are processors.

    Args:
        frames: All labeled frames.
        settings: Settings of the job.
        start: Trained file to fine-tune; None for random weights.
        minutes: Time for training.
        folder: Directory of the round.
        progress: Show a progress bar if members are trained one by one.

    Raises:
        DataError: There are too few labels, or they are not those of the interrupted training.
        ConfigError: The settings of the training are invalid.
    """
    if len(frames) < FEWEST_LABELS:
        raise DataError(
            f"{len(frames)} usable labels are too few for a first model: at least {FEWEST_LABELS} are needed: increase "
            "labels.budget or labels.first_share"
        )
    data, output = folder / "train.extxyz", folder / "teacher"
    if not data.is_file():
        write_frames(FrameSet(list(frames)), data)
    elif not _same_labels(frames, read_frames(data)):
        raise DataError(
            f"the labels differ from those in {data}, on which the teachers of this round were trained: restore them, "
            "or start a new job with the new labels as labels.file"
        )
    members = settings.teacher_members(start is not None)
    alone = torch.cuda.is_available()
    workers = 1 if alone else min(members, os.cpu_count() or 1)
    defaults: dict[str, Any] = {"seed": settings.seed, "threads": None if workers == 1 else 1}
    if not settings.labels.energies_only:
        defaults["optimizer"] = {"steps": _MOST_STEPS, "minutes": minutes}
    if start is None:
        defaults["model"] = {"walls": kind_of_walls(frames)}
    config = merged(defaults, teacher_training(settings, start, any(frames[0].pbc)))
    held_back = max(_FEWEST_HELD_BACK, round(_HELD_BACK * len(frames)))
    result = train_ensemble(
        data,
        seeds=[settings.seed + 1 + member for member in range(members)],
        config=config,
        init_from=start,
        output=output,
        resume=(output / ENSEMBLE_FILE).is_file(),
        options={"data.validation": held_back},
        progress=progress,
        workers=workers,
    )
    split = stored_split(result.members[0].directory / SPLIT_FILE)
    assert split is not None
    return Teachers(
        [member.model for member in result.members], FrameSet([frames[index] for index in split.validation])
    )


def _same_labels(frames: Sequence[Frame], stored: FrameSet) -> bool:
    """Whether frames are those of a file, which has fewer digits."""
    return len(frames) == len(stored) and all(
        np.array_equal(one.species, other.species)
        and np.allclose(one.positions, other.positions, atol=_DIGITS)
        and np.allclose(one.energy, other.energy, rtol=0, atol=_DIGITS, equal_nan=True)
        and np.allclose(one.forces, other.forces, atol=_DIGITS, equal_nan=True)
        for one, other in zip(frames, stored, strict=True)
    )


def errors_on(models: Sequence[Path], frames: FrameSet) -> Errors:
    """Return the errors of the mean prediction of models on labeled frames."""
    return committee_errors(models, frames, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
