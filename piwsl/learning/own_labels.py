"""Labels of the reference method on frames of the student's own dynamics: its errors where it will be used.

Held-back labels belong to dynamics of the teachers, who selected their weights by them, and an error that all teachers
share is not found by a comparison with them. These labels decide nothing before, so that their errors are unbiased.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.learning.committee import predict_frames
from piwsl.learning.directory import CHOSEN_FILE, OwnLabelsRecord
from piwsl.learning.fidelity import by_atom
from piwsl.learning.labels import is_labeled, label_round
from piwsl.learning.settings import FILE_METHOD, LabelSettings


def label_own_dynamics(
    student: Path,
    frames: Sequence[Frame],
    count: int,
    settings: LabelSettings,
    folder: Path,
    progress: bool | None = None,
) -> tuple[OwnLabelsRecord, list[Frame]]:
    """Label evenly spaced frames of the dynamics of a student, and measure its errors on them.

    A label is never set aside here: that it is unusual may be the fault of the student.

    Args:
        student: Trained file of the student.
        frames: Frames of its dynamics, replica by replica.
        count: Number of labels.
        settings: Reference method.
        folder: Directory of the labels.
        progress: Show a progress bar.

    Returns:
        Record of the errors, and the labeled frames.

    Raises:
        LabelsMissingError: The user must label the structures, and has not done so.
        DataError: No structure could be labeled, or the labels of the user do not fit the structures.
    """
    folder.mkdir(exist_ok=True)
    path = folder / CHOSEN_FILE
    if not path.is_file():
        places = np.unique(((np.arange(count) + 0.5) * len(frames) / count).astype(int))
        write_frames(FrameSet([frames[int(place)].without_labels() for place in places]), path)
    chosen = list(read_frames(path))  # with the digits of the file, so that an interrupted job resumes
    try:
        labeled = label_round(chosen, settings, folder, progress)
    except DataError as error:
        if settings.method == FILE_METHOD:
            raise
        raise DataError(f"structures of the student's dynamics in {path}: {error}") from None
    usable = [frame for frame in labeled if is_labeled(frame, settings.energies_only)]
    record = OwnLabelsRecord(bought=len(chosen), labels=len(usable), failed=list(labeled.notes))
    predicted = predict_frames([student], FrameSet(usable))
    record.energy_mae = float(np.abs(predicted.energies - [frame.energy for frame in usable]).mean())
    if not settings.energies_only:
        pairs = zip(predicted.forces, usable, strict=True)
        differences = np.stack([np.abs(forces - frame.forces).mean(1) for forces, frame in pairs])  # (frames, atoms)
        record.force_mae = float(differences.mean())
        record.force_mae_by_atom = by_atom(usable[0].atoms(), differences.mean(0))
    return record, usable
