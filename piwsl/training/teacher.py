"""The teacher of a training run: loading, checks, and its record in the trained file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, ElementError, PiwslError
from piwsl.export.licenses import foundation_lines
from piwsl.export.loading import model_files
from piwsl.export.trained_file import DTYPES, TrainedModel, load_trained
from piwsl.losses.teacher import Teacher
from piwsl.models.neighbor_sums.edge_list import EdgeList
from piwsl.models.training_loops import use_in_training
from piwsl.runs.files import sha256
from piwsl.training.config import LossConfig, TrainingConfig
from piwsl.training.evaluate import predictions
from piwsl.training.objective import is_active
from piwsl.typing import FloatArray

TERMS = ("teacher_forces", "teacher_pitc", "teacher_curvature")
_COMPARED = 20  # labeled frames on which labels and teacher are compared
_FEWEST = 5  # energies of equal composition
_SIMILAR = 0.8  # correlation above which the ratio is meaningful
_RATIOS = (0.6, 1.7)  # levels of theory differ by less


@dataclass(frozen=True, eq=False)
class LoadedTeacher:
    """Teacher of a run.

    Attributes:
        teacher: Teacher for the loss terms.
        record: Entry of the trained file: file, hashes, level of theory, and the foundation model it was made from.
        notes: Remarks for the log, one per line.
    """

    teacher: Teacher
    record: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hashes of the files, joined by commas."""
        return str(self.record["sha256"])

    def use_neighbor_sums(self, neighbor_sums: EdgeList) -> None:
        """Compute the sums over neighbors of all networks with the object that training uses."""
        for potential in self.teacher.potentials:
            use_in_training(potential.network, neighbor_sums)


def uses_teacher(loss: LossConfig) -> list[str]:
    """Return the keys of the active loss terms that require a teacher."""
    return [f"loss.{name}" for name in TERMS if is_active(getattr(loss, name))]


def load_teacher(
    config: TrainingConfig, train: FrameSet, level: str | None, further: Sequence[FrameSet] = ()
) -> LoadedTeacher | None:
    """Load the teacher of a configuration and compare it with the training frames.

    Args:
        config: Training configuration.
        train: Training frames of the main level, on which the terms act.
        level: Level of theory of their labels; None if it is unknown.
        further: Training frames of further levels, whose elements the teacher must know, too.

    Returns:
        The teacher, or None if the configuration has none.

    Raises:
        ConfigError: Terms and teacher contradict each other, the terms act on no frame, or the units of labels and
            teacher seem to differ.
        ModelFileError: A file cannot be read or is not a trained file.
        ElementError: The teacher does not support an element of the training frames.
    """
    terms, file = uses_teacher(config.loss), config.teacher.file
    if file is None:
        if terms:
            raise ConfigError(f"{terms[0]} requires a teacher: set teacher.file to a trained model.pt, or set it to 0")
        return None
    if not terms:
        raise ConfigError(
            f"teacher.file: no loss term learns from it: set {' or '.join(f'loss.{name}' for name in TERMS)} above 0"
        )
    if config.teacher.frames == "without_forces" and train.census.has_forces.all():
        raise ConfigError(
            f"{terms[0]}: every training frame has forces: set teacher.frames: all, or add frames with data.unlabeled"
        )
    paths = model_files(file)
    models = [_trained(path) for path in paths]
    elements = sorted({number for frames in (train, *further) for number in frames.elements})
    for path, model in zip(paths, models, strict=True):
        _check_elements(path, model, elements)
    cutoff = max(model.cutoff for model in models)
    potentials = [model.potential(dtype=config.weights_dtype) for model in models]
    _check_units(file, models, train)
    record: dict[str, Any] = {
        "file": file.name if file.name != "model.pt" else f"{file.parent.name}/{file.name}",
        "sha256": ",".join(sha256(path) for path in paths),
        "level": models[0].level,
    }
    if "foundation" in models[0].training:
        record["foundation"] = models[0].training["foundation"]
    return LoadedTeacher(
        Teacher(potentials, cutoff, config.model.cutoff), record, tuple(_notes(file, models, terms, level))
    )


def _trained(path: Path) -> TrainedModel:
    try:
        return load_trained(path)
    except PiwslError as error:
        raise type(error)(f"teacher.file: {error}") from None


def _notes(file: Path, models: Sequence[TrainedModel], terms: list[str], level: str | None) -> list[str]:
    first = models[0]
    members = f", mean of {len(models)} models" if len(models) > 1 else ""
    notes = [
        f"teacher: {file} ({first.config.network}{members}, level of theory {first.level or 'unknown'}) for "
        f"{', '.join(terms)}",
        *foundation_lines(first.training),
    ]
    if first.level and level and first.level != level:
        notes.append(f"the teacher was trained on {first.level}, but the labels are {level}: its terms are weak labels")
    return notes


def _check_elements(path: Path, model: TrainedModel, elements: Sequence[int]) -> None:
    unknown = [chemical_symbols[number] for number in elements if number not in set(model.elements)]
    if unknown:
        raise ElementError(
            f"teacher.file: {path} was not trained on {', '.join(unknown)}, only on {' '.join(model.symbols)}: use a "
            "teacher for all elements of the training frames"
        )


def _check_units(file: Path, models: Sequence[TrainedModel], train: FrameSet) -> None:
    """Raise an error if labels and teacher are similar except for a factor, which suggests other units.

    Raises:
        ConfigError: The factor is far from 1.
    """
    census = train.census
    with_forces = np.flatnonzero(census.has_forces)
    model = models[0]
    if len(with_forces):
        chosen = train.select(with_forces[:: max(1, len(with_forces) // _COMPARED)][:_COMPARED])
        labels = np.concatenate([frame.forces for frame in chosen]).ravel()
        ratio = _ratio(_predicted(model, chosen)[1].ravel(), labels)
        what = "forces"
    else:
        composition = _largest_group(census)
        if len(composition) < _FEWEST:
            return
        chosen = train.select(composition[:: max(1, len(composition) // _COMPARED)][:_COMPARED])
        energies = np.array([frame.energy for frame in chosen])
        predicted = _predicted(model, chosen)[0]
        ratio = _ratio(predicted - predicted.mean(), energies - energies.mean())
        what = "energy differences"
    if ratio is not None and not _RATIOS[0] <= ratio <= _RATIOS[1]:
        raise ConfigError(
            f"teacher.file: the {what} of the labels are {ratio:.3g} times those of {file}, which is in eV and "
            "angstrom: check data.units"
        )


def _largest_group(census: Census) -> Any:
    """Return the indices of the frames with an energy of the most frequent composition."""
    labeled = census.has_energy
    if not labeled.any():
        return np.zeros(0, dtype=np.int64)
    largest = np.bincount(census.composition[labeled]).argmax()
    return np.flatnonzero(labeled & (census.composition == largest))


def _predicted(model: TrainedModel, frames: FrameSet) -> tuple[FloatArray, FloatArray]:
    energies, forces = [], []
    for prediction, _ in predictions(model.potential(), frames, model.cutoff, DTYPES[model.dtype]):
        energies.append(prediction.energies.detach().numpy())
        forces.append(prediction.forces.detach().double().numpy())
    return np.concatenate(energies), np.concatenate(forces)


def _ratio(predicted: FloatArray, labels: FloatArray) -> float | None:
    """Return the factor between labels and predictions; None if they are not similar."""
    both, own, given = float(predicted @ labels), float(predicted @ predicted), float(labels @ labels)
    if own <= 0.0 or given <= 0.0 or both < _SIMILAR * np.sqrt(own * given):
        return None
    return both / own
