"""Labels of the reference method in the dynamics of the student: its errors where it will be used.

Held-back labels belong to dynamics of the teachers, who selected their weights by them, and an error that all teachers
share is not found by a comparison with them. These labels decide nothing before, so that their errors are unbiased.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.learning.committee import predict_frames
from piwsl.learning.directory import CHOSEN_FILE, StudentLabelsRecord
from piwsl.learning.fidelity import by_atom
from piwsl.learning.labels import is_labeled, label_round
from piwsl.learning.settings import LabelSettings
from piwsl.typing import FloatArray

_EQUILIBRATION = 0.2  # fraction of each replica, which begins at the start structure
_CLEARLY = 1.5
_CERTAINLY = 2.0  # standard errors
_GOLDEN = (np.sqrt(5) - 1) / 2


def spread_frames(replicas: Sequence[Sequence[Frame]], count: int) -> list[Frame]:
    """Return frames from different replicas and times.

    Replicas are used in turn, and the times are those of a sequence of golden ratios, which covers the time after
    equilibration evenly for any count.

    Args:
        replicas: Frames of each replica.
        count: Number of frames; fewer are returned if the dynamics has fewer.
    """
    chosen: dict[tuple[int, int], Frame] = {}
    for number in range(count):
        replica = number * len(replicas) // count if count <= len(replicas) else number % len(replicas)
        frames = replicas[replica]
        time = _EQUILIBRATION + (1 - _EQUILIBRATION) * ((number + 0.5) * _GOLDEN % 1)
        place = int(time * len(frames))
        chosen[replica, place] = frames[place]
    return list(chosen.values())


def label_dynamics(
    replicas: Sequence[Sequence[Frame]], count: int, settings: LabelSettings, folder: Path, progress: bool | None = None
) -> FrameSet:
    """Label frames of the dynamics of a student, or continue after an interruption.

    Args:
        replicas: Frames of each replica.
        count: Number of labels.
        settings: Reference method.
        folder: Directory of the labels.
        progress: Show a progress bar.

    Returns:
        The frames, see `label_round`.

    Raises:
        LabelsMissingError: The user must label the structures, and has not done so.
        DataError: The labels of the user do not fit the structures.
    """
    folder.mkdir(exist_ok=True)
    path = folder / CHOSEN_FILE
    if not path.is_file():
        write_frames(FrameSet([frame.without_labels() for frame in spread_frames(replicas, count)]), path)
    chosen = list(read_frames(path))  # with the digits of the file, so that an interrupted job resumes
    return label_round(chosen, settings, folder, progress)


@dataclass(frozen=True)
class MeanError:
    """Mean absolute error over frames.

    Attributes:
        value: Mean.
        uncertainty: Standard error of the mean; infinite for a single frame.
    """

    value: float
    uncertainty: float

    @classmethod
    def of(cls, errors: FloatArray) -> "MeanError":
        """Return the mean of the errors of frames (S,)."""
        count = len(errors)
        spread = float(np.std(errors, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        return cls(float(np.mean(errors)), spread)

    def clearly_exceeds(self, other: "MeanError") -> bool:
        """Whether the error is at least 1.5 times another one, and the difference at least two standard errors."""
        uncertainty = math.hypot(self.uncertainty, other.uncertainty)
        return self.value > max(_CLEARLY * other.value, other.value + _CERTAINLY * uncertainty)


@dataclass(frozen=True)
class FrameErrors:
    """Errors of a model on labeled frames.

    Attributes:
        energy: Mean absolute error of the energy, eV.
        force: Mean absolute error of the force components, eV/angstrom; None for labels without forces.
        forces: Mean absolute error of the force on each atom (n,) of each frame; empty for labels without forces.
    """

    energy: MeanError
    force: MeanError | None
    forces: list[FloatArray]


def frame_errors(model: Path, frames: FrameSet) -> FrameErrors:
    """Return the errors of a trained file on labeled frames, which may be of several structures."""
    predicted = predict_frames([model], frames)
    energy = MeanError.of(np.abs(predicted.energies - [frame.energy for frame in frames]))
    if not all(frame.has_forces for frame in frames):
        return FrameErrors(energy, None, [])
    pairs = zip(predicted.forces, frames, strict=True)
    differences: list[FloatArray] = [np.abs(forces - frame.forces).mean(1) for forces, frame in pairs]
    return FrameErrors(energy, MeanError.of(np.array([one.mean() for one in differences])), differences)


def judge_student(
    student: Path, labeled: FrameSet, held_back: FrameSet, energies_only: bool = False
) -> StudentLabelsRecord:
    """Compare the errors of a student in its own dynamics with those on the held-back labels.

    A label is never set aside here: that it is unusual may be the fault of the student.

    Args:
        student: Trained file of the student.
        labeled: Frames of its dynamics, with labels where the calculation succeeded.
        held_back: Labeled frames that no model was trained on.
        energies_only: Whether labels have no forces.
    """
    usable = [frame for frame in labeled if is_labeled(frame, energies_only)]
    record = StudentLabelsRecord(bought=len(labeled), labels=len(usable), failed=list(labeled.notes))
    if not usable:
        return record
    own, elsewhere = frame_errors(student, FrameSet(usable)), frame_errors(student, held_back)
    record.energy_mae = own.energy.value
    compared = own.energy, elsewhere.energy
    if own.force is not None and elsewhere.force is not None:
        record.force_mae = own.force.value
        record.force_mae_by_atom = by_atom(usable[0].atoms(), np.mean(own.forces, axis=0))
        compared = own.force, elsewhere.force
    record.exceeds = compared[0].clearly_exceeds(compared[1])
    return record
