"""Predictions of a few models for many frames: mean energies and forces, their spread, and features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from piwsl.data.frames import FrameSet
from piwsl.export.trained_file import DTYPES, load_trained
from piwsl.losses.predictions import ORIGIN
from piwsl.models.features import AtomFeatures, structure_features
from piwsl.training.evaluate import evaluated_batches
from piwsl.typing import FloatArray

_BATCH = 25  # frames per call


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
    elements = frames.elements
    energies: list[list[float]] = []
    forces: list[list[FloatArray]] = []
    features: list[FloatArray] = []
    for place, path in enumerate(models):
        model = load_trained(path)
        potential = model.potential().to(device)
        own_energies: list[float] = []
        own_forces: list[FloatArray] = []
        with AtomFeatures(potential) as recorded:
            for points, batch in evaluated_batches(potential, frames, model.cutoff, DTYPES[model.dtype], _BATCH):
                own_energies += points.energies[ORIGIN].tolist()
                sizes = batch.n_atoms.tolist()
                ends = np.cumsum(sizes)[:-1]
                own_forces += np.split(points.forces[ORIGIN].detach().cpu().double().numpy(), ends)
                if place == 0:
                    species = np.split(batch.species.cpu().numpy(), ends)
                    parts = np.split(recorded.take(), ends)
                    features += [
                        structure_features(kinds, part, elements) for kinds, part in zip(species, parts, strict=True)
                    ]
        energies.append(own_energies)
        forces.append(own_forces)
    stacked = np.array(energies, dtype=np.float64).reshape(len(models), len(frames))
    together = [np.stack(parts) for parts in zip(*forces, strict=True)]
    several = len(models) > 1
    return Predicted(
        stacked.mean(0),
        [parts.mean(0) for parts in together],
        stacked.std(0, ddof=1) if several else np.full(len(frames), np.nan),
        [np.sqrt(np.square(parts.std(0, ddof=1)).sum(-1)) for parts in together] if several else [],
        np.array(features).reshape(len(frames), -1),
    )
