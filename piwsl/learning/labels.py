"""Labels of a learning job: one labeling job for each round, checks of the labels, and all labels together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.labeling.label import executor
from piwsl.data.labeling.structures import LabeledFrames, NothingLabeledError, label_frames, labeled_before
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.learning.directory import TO_LABEL_FILE, USER_LABELS_FILE
from piwsl.learning.settings import FILE_METHOD, LabelSettings
from piwsl.runs.progress import counting

# A label with a larger force is set aside: such a structure is broken, or the method failed.
LARGEST_FORCE = 50.0  # eV/angstrom
# A label is set aside if its energy differs from the prediction by more than both limits.
_LARGEST_DEVIATION = 1.0  # eV
_DEVIATIONS = 12.0  # median absolute deviations
# Largest difference between a structure to label and the structure with the label of the user.
_SAME = 1e-3  # angstrom


class LabelsMissingError(Exception):
    """The user has not provided the labels for a file of structures.

    Attributes:
        structures: File with the structures.
        expected: File in which the labels are expected.
    """

    def __init__(self, structures: Path, expected: Path) -> None:
        super().__init__(str(structures))
        self.structures, self.expected = structures, expected


@dataclass(frozen=True)
class Labeled:
    """Labels of a round.

    Attributes:
        frames: Frames with usable labels.
        set_aside: Frames with labels that cannot be right.
        reasons: Reasons why structures have no label, or a label that was set aside.
        bought: Number of structures that were labeled, including failures.
    """

    frames: list[Frame]
    set_aside: list[Frame] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    bought: int = 0


def label_round(
    frames: Sequence[Frame], settings: LabelSettings, folder: Path, progress: bool | None = None
) -> FrameSet:
    """Label the structures of a round, or continue after an interruption.

    No structure is labeled twice. Structures that failed are not tried again, unless all of them did.

    Returns:
        The frames in order. A frame whose calculation failed has no labels; the notes give the reasons.

    Raises:
        LabelsMissingError: The user must label the structures, and has not done so.
        DataError: The labels of the user do not fit the structures, or the method returns no forces.
    """
    if settings.method == FILE_METHOD:
        return _labels_of_user(frames, folder, settings.energies_only)
    try:
        done = labeled_before(folder / "labels") or _compute(frames, settings, folder / "labels", progress)
    except NothingLabeledError as error:
        return FrameSet([frame.without_labels() for frame in frames], notes=_notes(error.failures))
    labeled = list(read_frames(done.file))
    if settings.energies_only:
        labeled = [_energy_of(frame) for frame in labeled]
    elif not any(frame.has_forces for frame in labeled) and any(frame.has_energy for frame in labeled):
        raise DataError(f"{settings.method} returns energies without forces: set labels.energies_only: true")
    return FrameSet(labeled, done.file, _notes(done.failures))


def _compute(frames: Sequence[Frame], settings: LabelSettings, output: Path, progress: bool | None) -> LabeledFrames:
    with counting(progress, "labels") as report:
        return label_frames(
            FrameSet(list(frames)),
            settings.method,
            output,
            settings.options,
            executor(settings.workers if settings.scheduler is None else None, settings.scheduler),
            report,
        )


def _notes(failures: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(f"structure {index}: {reason}" for index, reason in failures.items())


def _energy_of(frame: Frame) -> Frame:
    """Return a frame with its energy as the only label."""
    return replace(frame.without_labels(), energy=frame.energy)


def is_labeled(frame: Frame, energies_only: bool) -> bool:
    """Whether a frame has an energy, and forces unless energies are enough."""
    return frame.has_energy and (energies_only or frame.has_forces)


def _labels_of_user(frames: Sequence[Frame], folder: Path, energies_only: bool) -> FrameSet:
    structures, expected = folder / TO_LABEL_FILE, folder / USER_LABELS_FILE
    if not expected.is_file():
        if not structures.is_file():  # the user may have added labels to it
            write_frames(FrameSet(list(frames)), structures)
        raise LabelsMissingError(structures, expected)
    labeled = read_frames(expected)
    if len(labeled) != len(frames):
        raise DataError(f"{expected}: contains {len(labeled)} frames, but {structures} contains {len(frames)}")
    for index, (frame, given) in enumerate(zip(frames, labeled, strict=True)):
        same = np.array_equal(frame.species, given.species)
        if not same or float(np.abs(frame.positions - given.positions).max()) > _SAME:
            raise DataError(
                f"{expected}: frame {index} is not the structure of {structures}: keep the order and the positions"
            )
        if (given.states_charge and given.charge_spin != frame.charge_spin) or _other_cell(frame, given):
            raise DataError(
                f"{expected}: frame {index} states another charge, spin or cell than {structures}: label the structure "
                "as it is there"
            )
    labeled = FrameSet([_with_labels_of(*both) for both in zip(frames, labeled, strict=True)], labeled.source)
    what = "no energy" if energies_only else "no energy or forces"
    missing = tuple(
        f"structure {index}: {what} in {expected.name}"
        for index, frame in enumerate(labeled)
        if not is_labeled(frame, energies_only)
    )
    if len(missing) == len(labeled):
        needed = (
            "an energy: store it, in eV" if energies_only else "an energy and forces: store both, in eV and eV/angstrom"
        )
        raise DataError(f"{expected}: no frame has {needed}")
    return FrameSet([_energy_of(frame) if energies_only else frame for frame in labeled], expected, missing)


def _other_cell(frame: Frame, given: Frame) -> bool:
    """Whether the user's frame has another cell. A program for molecules may leave out the cell."""
    return any(given.pbc) and (given.pbc != frame.pbc or not np.allclose(given.cell, frame.cell, atol=_SAME))


def _with_labels_of(frame: Frame, given: Frame) -> Frame:
    """Return the requested structure, with its charge and cell, and the labels of the user."""
    return replace(frame, energy=given.energy, forces=given.forces, stress=given.stress, labels_from=given.labels_from)


def checked_labels(labeled: FrameSet, predicted: np.ndarray | None, energies_only: bool = False) -> Labeled:
    """Separate usable labels from failures and from labels that cannot be right.

    Args:
        labeled: Frames of a round, with labels where the calculation succeeded.
        predicted: Energies of the present model (S,), eV; None without a model. They may have another zero.
        energies_only: Whether labels without forces are usable.
    """
    reasons = list(labeled.notes)
    usable = [index for index, frame in enumerate(labeled) if is_labeled(frame, energies_only)]
    absurd: dict[int, str] = {}
    for index in usable:
        largest = float(np.linalg.norm(labeled[index].forces, axis=1).max())  # NaN without forces
        if largest > LARGEST_FORCE:
            absurd[index] = f"a force of {largest:.0f} eV/A, above {LARGEST_FORCE:g}"
    if predicted is not None and len(usable) > 3:
        deviations = np.array([labeled[index].energy - predicted[index] for index in usable])
        deviations -= np.median(deviations)
        limit = max(_LARGEST_DEVIATION, _DEVIATIONS * float(np.median(np.abs(deviations))))
        for index, deviation in zip(usable, deviations, strict=True):
            if abs(deviation) > limit:
                absurd[index] = f"an energy {abs(deviation):.1f} eV from the prediction, above {limit:.1f}"
    reasons += [f"structure {index}: set aside: {reason}" for index, reason in sorted(absurd.items())]
    return Labeled(
        [labeled[index] for index in usable if index not in absurd],
        [labeled[index] for index in sorted(absurd)],
        reasons,
        len(labeled),
    )


def existing_labels(settings: LabelSettings, structure: Frame) -> list[Frame]:
    """Read the labels that the user has already.

    Raises:
        ConfigError: The file contains other elements than the structure.
        DataError: The file cannot be read, or a frame has no energy or no forces, which ``energies_only`` omits.
    """
    if settings.file is None:
        return []
    frames = read_frames(settings.file, settings.units)
    only = settings.energies_only
    without = next((index for index, frame in enumerate(frames) if not is_labeled(frame, only)), None)
    if without is not None:
        lacks = "an energy" if only else "an energy or forces, and learning needs both"
        other = "" if only or frames[without].has_forces else ", or set labels.energies_only: true"
        raise DataError(
            f"{settings.file}: frame {without} lacks {lacks}: remove the frame, label it with `piwsl data label`{other}"
        )
    if frames.elements != sorted({int(number) for number in structure.species}):
        raise ConfigError(f"{settings.file}: the elements differ from those of the structure to learn")
    return [_energy_of(frame) if only else frame for frame in frames]
