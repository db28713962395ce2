"""Predictors that evaluate a trained file, an ensemble, or an exported file on labeled frames."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from piwsl.data.batch import Batch
from piwsl.data.domain import check_frames
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.export.evaluation import BoundPotential, bind
from piwsl.export.exported_file import ExportedPotential
from piwsl.export.loading import is_trained, open_model
from piwsl.export.supported import check_elements, in_trained_order
from piwsl.export.trained_file import (
    DTYPES,
    ENSEMBLE_FILE,
    MODEL_FILE,
    TrainedModel,
    load_trained,
    member_models,
)
from piwsl.losses.predictions import ORIGIN, PointPredictions
from piwsl.models.potential import DirectPotential
from piwsl.training.evaluate import evaluated_batches
from piwsl.typing import FloatArray, IntArray

BATCH = 50  # frames per call


@dataclass(frozen=True, eq=False)
class Portion:
    """Labels and predictions of consecutive frames, in eV and angstrom. Missing labels are NaN.

    Attributes:
        species: Atomic numbers (N,).
        counts: Number of atoms of each frame (S,).
        energy_labels: Energy labels (S,).
        energies: Predicted energies (S,).
        force_labels: Force labels (N, 3).
        forces: Predicted forces (N, 3).
        stress_labels: Stress labels (S, 3, 3).
        stresses: Predicted stress (S, 3, 3). None if the frames have no stress labels or the model predicts no stress.
        energy_spreads: Standard deviation (S,) of the energy over the members of an ensemble. None for a single model.
        force_spreads: Standard deviation (N, 3) of the forces over the members. None for a single model.
    """

    species: IntArray
    counts: IntArray
    energy_labels: FloatArray
    energies: FloatArray
    force_labels: FloatArray
    forces: FloatArray
    stress_labels: FloatArray
    stresses: FloatArray | None
    energy_spreads: FloatArray | None = None
    force_spreads: FloatArray | None = None

    def reordered(self, orders: Sequence[IntArray]) -> "Portion":
        """Return the portion with the atoms of each frame at the indices (n,) that an order contains for them."""
        starts = np.cumsum(self.counts) - self.counts
        atoms = np.concatenate([start + np.argsort(order) for start, order in zip(starts, orders, strict=True)])
        return replace(
            self,
            species=self.species[atoms],
            force_labels=self.force_labels[atoms],
            forces=self.forces[atoms],
            force_spreads=None if self.force_spreads is None else self.force_spreads[atoms],
        )

    @property
    def frame_of_atom(self) -> IntArray:
        """Index (N,) of the frame of each atom, from 0."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


class Predictor(ABC):
    """Base class of models that predict energies and forces of frames."""

    @abstractmethod
    def check(self, frames: FrameSet, strict: bool) -> None:
        """Raise an error for frames that the model does not support, and warn about frames outside its training data.

        Raises:
            ElementError: A frame contains an element that the model was not trained on.
            DataError: ``strict`` is set, and a frame lies outside the training data.
        """

    @abstractmethod
    def portions(self, frames: FrameSet) -> Iterator[Portion]:
        """Yield the predictions for all frames, in order."""

    @property
    def notes(self) -> list[str]:
        """Remarks about the model."""
        return []


class TrainedPredictor(Predictor):
    """Predictor for one trained model, or for the mean of several models.

    Attributes:
        potentials: Potentials of the models.

    Args:
        models: Contents of the trained files.
        device: ``cpu`` or ``cuda``.
        name: Name of the model, used in warnings.
    """

    def __init__(self, models: Sequence[TrainedModel], device: str, name: str = "the model") -> None:
        self.models = models
        self._name = name
        self.potentials = [model.potential().to(device) for model in models]

    @property
    def direct(self) -> DirectPotential | None:
        """Potential of a single model with direct forces; None otherwise."""
        potential = self.potentials[0]
        return potential if len(self.models) == 1 and isinstance(potential, DirectPotential) else None

    @property
    def notes(self) -> list[str]:
        """Remarks about the model: its heads, if there are several."""
        levels = self.models[0].levels
        return [f"errors of the head {levels[0]}; the model also has {', '.join(levels[1:])}"] if levels[1:] else []

    def check(self, frames: FrameSet, strict: bool) -> None:
        """Check elements and training domain, see `Predictor.check`."""
        for model in self.models:
            model.check_structures(frames)
            check_frames(model.domain, frames, self._name, strict)

    def portions(self, frames: FrameSet) -> Iterator[Portion]:
        """Yield the predictions for all frames, in order. Their atoms may have any order that the walls support."""
        ordered, orders = in_trained_order(self.models[0].config.walls, frames)
        done = 0
        for portion in self.portions_as_given(ordered):
            count = len(portion.counts)
            yield portion if orders is None else portion.reordered(orders[done : done + count])
            done += count

    def portions_as_given(self, frames: FrameSet) -> Iterator[Portion]:
        """Yield the predictions for frames whose atoms have the order of the training data, whatever their bonds."""
        members = [
            evaluated_batches(potential, frames, model.cutoff, DTYPES[model.dtype], BATCH)
            for potential, model in zip(self.potentials, self.models, strict=True)
        ]
        for together in zip(*members, strict=True):
            yield _portion_of(together[0][1], [points for points, _ in together])


class ExportedPredictor(Predictor):
    """Predictor for an exported file of one model or of an ensemble.

    Args:
        potential: Loaded exported file.
    """

    def __init__(self, potential: ExportedPotential) -> None:
        self._potential = potential

    def check(self, frames: FrameSet, strict: bool) -> None:
        """Check elements and training domain, see `Predictor.check`."""
        if not self._potential.species:
            check_elements(self._potential.info["elements"], frames.elements, self._potential.path)
        check_frames(self._potential.domain, frames, self._potential.path, strict, self._potential.copies)

    def portions(self, frames: FrameSet) -> Iterator[Portion]:
        """Yield the predictions for all frames, in order."""
        bound: dict[tuple[object, ...], BoundPotential] = {}
        for first in range(0, len(frames), BATCH):
            chosen = [frames[index] for index in range(first, min(first + BATCH, len(frames)))]
            results = []
            for frame in chosen:
                key = (frame.species.tobytes(), frame.pbc, str(frame.charge_spin))
                if key not in bound:
                    bound.clear()  # Consecutive frames often have the same composition, so one entry suffices.
                    bound[key] = bind(self._potential, frame.species, frame.pbc, frame.charge_spin)
                results.append(bound[key](frame.positions, frame.cell if any(frame.pbc) else None))
            stresses = None
            if any(frame.has_stress for frame in chosen) and self._potential.has_stress:
                stresses = np.stack(
                    [_stress(frame, result.virial) for frame, result in zip(chosen, results, strict=True)]
                )
            spreads = [result.forces_std for result in results if result.forces_std is not None]
            energy_spreads = [result.energy_std for result in results if result.energy_std is not None]
            yield Portion(
                np.concatenate([frame.species for frame in chosen]),
                np.array([len(frame.species) for frame in chosen]),
                np.array([frame.energy for frame in chosen]),
                np.array([result.energy for result in results]),
                np.concatenate([frame.forces for frame in chosen]),
                np.concatenate([result.forces for result in results]),
                np.stack([frame.stress for frame in chosen]),
                stresses,
                np.array(energy_spreads) if len(energy_spreads) == len(chosen) else None,
                np.concatenate(spreads) if len(spreads) == len(chosen) else None,
            )


def predictor_of(model: str | PathLike[str] | TrainedModel, device: str = "cpu", head: str | None = None) -> Predictor:
    """Return the predictor for a trained file, an exported file, or a directory of a training run or an ensemble.

    Args:
        model: Trained or exported file, directory, or content of a trained file.
        device: ``cpu`` or ``cuda``.
        head: Name of the level of theory, for a model with several heads. The default is the main level.

    Raises:
        ModelFileError: The file is missing, damaged or not a file of piwsl.
        RunDirectoryError: The directory contains no model.
        ConfigError: The model has no such head, or is an exported file, which contains a single head.
    """
    if isinstance(model, TrainedModel):
        return TrainedPredictor([model if head is None else model.at_level(head)], device)
    path = Path(model)
    if path.is_dir():
        if (path / ENSEMBLE_FILE).is_file():
            return TrainedPredictor([load_trained(member, head) for member in member_models(path)], device, str(path))
        if not (path / MODEL_FILE).is_file():
            raise RunDirectoryError(
                f"{path}: the directory contains neither {MODEL_FILE} nor an ensemble: pass a trained file"
            )
        path = path / MODEL_FILE
    if path.is_file() and not is_trained(path):
        if head is not None:
            raise ConfigError(f"{path} is an exported file, which contains a single head: omit head={head!r}")
        return ExportedPredictor(open_model(path, None, device=device))
    return TrainedPredictor([load_trained(path, head)], device, str(path))


def _portion_of(batch: Batch, members: Sequence[PointPredictions]) -> Portion:
    """Return the mean and the standard deviation of the predictions of several models for a batch."""
    energies = np.stack([_array(points.energies[ORIGIN]) for points in members])
    forces = np.stack([_array(points.forces[ORIGIN]) for points in members])
    stresses = [_array(points.stress) for points in members if points.stress is not None]
    several = len(members) > 1
    return Portion(
        batch.species.cpu().numpy(),
        batch.n_atoms.cpu().numpy(),
        _array(batch.energy),
        energies.mean(0),
        _array(batch.forces),
        forces.mean(0),
        _array(batch.stress),
        np.mean(stresses, axis=0) if stresses else None,
        energies.std(0, ddof=1) if several else None,
        forces.std(0, ddof=1) if several else None,
    )


def _stress(frame: Frame, virial: FloatArray | None) -> FloatArray:
    """Return the stress (3, 3) in eV/angstrom^3, or NaN for a frame that is not periodic in all directions."""
    if virial is None or not all(frame.pbc):
        return np.full((3, 3), np.nan)
    return np.asarray(-virial / abs(float(np.linalg.det(frame.cell))))


def _array(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().double().numpy()
    return array
