"""Predictions of a few models for many frames: mean energies and forces, their spread, and features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from piwsl.data.frames import FrameSet
from piwsl.export.trained_file import load_trained
from piwsl.models.features import AtomFeatures, structure_features
from piwsl.training.predictors import TrainedPredictor
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions for frames, in eV and angstrom.

    Attributes:
        energies: Mean energies (S,).
        forces: Mean forces (n, 3) of each frame.
        energy_spreads: Standard deviation of the energies over the models (S,); NaN for a single model.
        force_spreads: Standard deviation of the force on each atom (n,) of each frame, as the root of the sum over the
            components; empty for a single model.
        features: Features (S, d) of the structures, see `structure_features`; empty without a readout.
    """

    energies: FloatArray
    forces: list[FloatArray]
    energy_spreads: FloatArray
    force_spreads: list[FloatArray]
    features: FloatArray

    @property
    def largest_spreads(self) -> FloatArray | None:
        """Largest spread of a force in each frame (S,), eV/angstrom; None for a single model."""
        return np.array([spread.max() for spread in self.force_spreads]) if self.force_spreads else None

    def labeled(self, frames: FrameSet) -> FrameSet:
        """Return the frames with the mean predictions and their spreads as labels."""
        labeled = []
        for index, frame in enumerate(frames):
            spread = self.force_spreads[index] if self.force_spreads else None
            labeled.append(
                replace(
                    frame,
                    energy=float(self.energies[index]),
                    forces=self.forces[index],
                    energy_spread=float(self.energy_spreads[index]),
                    force_spread=spread,
                )
            )
        return FrameSet(labeled)


def predict_frames(models: Sequence[Path], frames: FrameSet) -> Predicted:
    """Evaluate trained files on frames. The features are those of the first file.

    Raises:
        ModelFileError: A file cannot be read.
        ConfigError: The network of the first file has no readout.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = TrainedPredictor([load_trained(path) for path in models], device)
    elements = frames.elements
    energies: list[FloatArray] = []
    energy_spreads: list[FloatArray] = []
    forces: list[FloatArray] = []
    force_spreads: list[FloatArray] = []
    features: list[FloatArray] = []
    with AtomFeatures(predictor.potentials[0]) as recorded:
        for portion in predictor.portions(frames):
            ends = np.cumsum(portion.counts)[:-1]
            energies.append(portion.energies)
            forces += np.split(portion.forces, ends)
            if portion.energy_spreads is not None and portion.force_spreads is not None:
                energy_spreads.append(portion.energy_spreads)
                force_spreads += np.split(np.sqrt(np.square(portion.force_spreads).sum(-1)), ends)
            species, of_atoms = np.split(portion.species, ends), np.split(recorded.take(), ends)
            features += [structure_features(*both, elements) for both in zip(species, of_atoms, strict=True)]
    return Predicted(
        np.concatenate([np.empty(0), *energies]),
        forces,
        np.concatenate([np.empty(0), *energy_spreads]) if energy_spreads else np.full(len(frames), np.nan),
        force_spreads,
        np.array(features).reshape(len(frames), -1),
    )
