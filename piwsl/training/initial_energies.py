"""Reference energies and scale of a potential at the start of training, from the training labels."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from piwsl.data.batch import collate
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import energy_spread
from piwsl.data.reference_energies import fit_reference_energies
from piwsl.export.trained_file import DTYPES
from piwsl.models import Potential
from piwsl.models.priors.prior import Prior
from piwsl.training.config import TrainingConfig
from piwsl.training.frames import TrainingFrames
from piwsl.training.prior_labels import prior_labels, without_prior
from piwsl.typing import BoolArray, FloatArray

MOST_FITTED = 5000  # largest number of frames for a fit of reference energies and for the scale
LEAST_SQUARES = "least squares"  # source of reference energies
_BATCH = 50


def energy_words(energies: Tensor, sources: Mapping[str, str]) -> str:
    """Return the reference energies (eV, by atomic number) of some elements, grouped by their sources."""
    groups: dict[str, list[str]] = {}
    for symbol, source in sources.items():
        groups.setdefault(source, []).append(f"{symbol} {float(energies[chemical_symbols.index(symbol)]):.4f}")
    parts = (f"{', '.join(elements)} ({source})" for source, elements in groups.items())
    return f"reference energies [eV]: {'; '.join(parts)}"


def refit(potential: Potential, energies: Tensor, elements: list[int], train: FrameSet, config: TrainingConfig) -> str:
    """Correct the reference energies by a fit to the residuals between labels and the loaded potential (eV).

    The fit returns the correction with the smallest norm. If the compositions do not determine the elements, the
    differences between their energies thus stay close to the file.

    Args:
        potential: Loaded potential.
        energies: Its table of reference energies of one level by atomic number, eV, which is corrected.
        elements: Atomic numbers of the elements of the level.
        train: Training frames of the level.
        config: Training configuration.

    Returns:
        The result as a line of text.
    """
    dtype = DTYPES[config.weights_dtype]
    labeled = _some(train, train.census.has_energy)
    if not labeled:
        return "reference energies: kept from the file, because no training frame has an energy"
    residuals: list[FloatArray] = []
    with torch.no_grad():
        for begin in range(0, len(labeled), _BATCH):
            batch = collate(labeled[begin : begin + _BATCH], config.model.cutoff, dtype)
            residuals.append((batch.energy - potential.energies(*batch.graph)).numpy())
    left = np.concatenate(residuals)
    frames = FrameSet([replace(frame, energy=float(value)) for frame, value in zip(labeled, left, strict=True)])
    correction = fit_reference_energies(frames, elements)
    for number, energy in correction.items():
        energies[number] += energy
    counts = np.array([sum(correction[int(z)] for z in frame.species) for frame in labeled])
    words = ", ".join(
        f"{chemical_symbols[z]} {float(energies[z]):.4f} (shift {shift:+.4f})" for z, shift in correction.items()
    )
    return (
        f"reference energies: refitted to {len(left)} energies [eV]: {words}; "
        f"mean error {-left.mean():.3f} before, {(counts - left).mean():.3f} after"
    )


def fitted(
    train: FrameSet, elements: list[int], of_atoms: Mapping[int, float], prior: Prior | None
) -> dict[int, float]:
    """Return reference energies (eV) whose sum with the prior fits the training labels.

    The fit is linear in the labels, so the fit to the energies of the prior is subtracted. It uses at most
    `MOST_FITTED` frames.

    Args:
        train: Training frames of one level of theory.
        elements: Atomic numbers of the elements.
        of_atoms: Energies of isolated atoms, eV, by atomic number. They are kept.
        prior: Pair energies that the potential adds to its network.
    """
    energies = fit_reference_energies(train, elements, of_atoms)
    labeled = _some(train, train.census.has_energy)
    if prior is None or not labeled:
        return energies
    of_prior = FrameSet(prior_labels(labeled, prior))
    explained = fit_reference_energies(of_prior, elements, dict.fromkeys(of_atoms, 0.0))
    return {number: energy - explained[number] for number, energy in energies.items()}


def network_scale(frames: TrainingFrames, prior: Prior | None) -> float:
    """Return the RMS force of the training frames, or the spread of the energies (eV) if there are no forces.

    The forces are those of all levels of theory, the energies those of the main level. The labels are those of the
    network: the forces and energies of the prior are subtracted.
    """
    labeled = without_prior(_some(frames.train, frames.train.census.has_forces), prior)
    force_rms = (
        float(np.sqrt(np.concatenate([np.square(one.forces).mean(1) for one in labeled]).mean())) if labeled else 0.0
    )
    if force_rms or prior is None:
        return force_rms or frames.report.energy_spread or 1.0
    of_network = without_prior(_some(frames.main, frames.main.census.has_energy), prior)
    return (energy_spread(FrameSet(of_network).census) if of_network else 0.0) or 1.0


def _some(frames: FrameSet, labeled: BoolArray) -> list[Frame]:
    """Return at most `MOST_FITTED` evenly spaced frames among the labeled frames."""
    indices = np.flatnonzero(labeled)
    return [frames[int(index)] for index in indices[:: max(1, -(-len(indices) // MOST_FITTED))]]
