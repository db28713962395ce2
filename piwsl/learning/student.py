"""The student: a fast model that is trained on labels of the teachers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.learning.committee import predict_frames
from piwsl.learning.settings import LearnSettings
from piwsl.runs.config import merged
from piwsl.runs.directory import RunDirectory
from piwsl.training.directory import LAST, TRAINING_RUN
from piwsl.training.run import TrainingResult, train
from piwsl.training.walls import kind_of_walls
from piwsl.typing import FloatArray

# Frames with larger forces are broken structures, on which the teachers cannot be trusted.
LARGEST_FORCE = 30.0  # eV/angstrom
STUDENT_FRAMES_FILE = "frames.extxyz"
_MOST_STEPS = 1_000_000  # the time ends training before
_OPTIMIZER = {"batch_size": 10, "validation_interval": 250}
_CONTINUED_RATE = 5e-4
_FEWEST_FRAMES = 20
_ROUNDED = 4  # decimals of positions


def teacher_frames(
    frames: Sequence[Frame],
    always: Sequence[Frame],
    held_back: Sequence[Frame],
    models: Sequence[Path],
    most: int,
    seed: int,
) -> FrameSet:
    """Return frames with the labels of the teachers.

    Args:
        frames: Frames of dynamics; some are chosen at random if there are too many.
        always: Further frames, which are always used.
        held_back: Structures that are left out, because the errors of the student are measured on them.
        models: Trained files of the teachers.
        most: Largest number of frames.
        seed: Seed of the choice.

    Raises:
        DataError: Too few physical frames remain.
    """
    known = {_structure_key(frame) for frame in held_back}
    frames, always = ([one for one in some if _structure_key(one) not in known] for some in (frames, always))
    room = max(0, most - len(always))
    if len(frames) > room:
        random = np.random.default_rng(np.random.SeedSequence([seed, 2]))
        frames = [frames[int(index)] for index in sorted(random.permutation(len(frames))[:room])]
    both = FrameSet([*frames, *always])
    labeled = predict_frames(models, both).labeled(both)
    physical = [
        frame for frame in labeled if np.isfinite(frame.energy) and float(np.abs(frame.forces).max()) < LARGEST_FORCE
    ]
    if len(physical) < _FEWEST_FRAMES:
        raise DataError(
            f"only {len(physical)} physical frames for the student: the dynamics of the teachers breaks at once: lower "
            "the temperature, or raise labels.budget"
        )
    return FrameSet(physical)


def _structure_key(frame: Frame) -> bytes:
    """Return the rounded positions of a frame, by which it is found again among frames with fewer digits."""
    rounded: FloatArray = frame.positions.round(_ROUNDED) + 0.0  # no negative zeros
    return rounded.tobytes()


def train_student(
    frames: FrameSet,
    settings: LearnSettings,
    minutes: float,
    before: Path | None,
    folder: Path,
    progress: bool | None = None,
) -> TrainingResult:
    """Train the student on frames of the teachers, or continue after an interruption.

    Args:
        frames: Frames with the labels of the teachers.
        settings: Settings of the job.
        minutes: Time for training.
        before: Trained file of the previous attempt, which is trained further; None for random weights.
        folder: Directory of the attempt.
        progress: Show a progress bar.

    Raises:
        ConfigError: The settings of the training are invalid.
    """
    data, output = folder / STUDENT_FRAMES_FILE, folder / "train"
    if not data.is_file():
        write_frames(frames, data)
    optimizer: dict[str, Any] = {**_OPTIMIZER, "steps": _MOST_STEPS, "minutes": minutes}
    sections: dict[str, Any] = {"optimizer": optimizer, "seed": settings.seed}
    if before is None:
        sections["model"] = {"walls": kind_of_walls(frames)}
    else:
        optimizer["learning_rate"] = _CONTINUED_RATE
        sections["start"] = {"init_from": str(before)}
    run = RunDirectory(output, TRAINING_RUN)
    resume = run.holds_job and (output / LAST).is_file()
    return train(
        data,
        config=merged(sections, settings.student.training),
        output=output,
        resume=resume,
        force=run.holds_job and not resume,
        progress=progress,
    )


def save_copy(source: Path, target: Path, level: str | None, foundation: object) -> None:
    """Copy a trained file, with the level of theory of its labels and the foundation model behind them.

    The license of a foundation model holds for everything that is made from it.
    """
    model = load_trained(source)
    training = dict(model.training)
    if level is not None:
        training["level"] = level
    if foundation is not None:
        training["foundation"] = foundation
    domain = model.domain if model.domain is None else model.domain.model_copy(update={"level": level})
    save_trained(replace(model, training=training, domain=domain), target)
