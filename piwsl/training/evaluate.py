"""Errors of a potential on labeled frames."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.losses.curl import Curl, measure_curl
from piwsl.losses.evaluation import evaluate
from piwsl.losses.points import PointPredictions
from piwsl.losses.prediction import Prediction, predict
from piwsl.losses.request import ORIGIN, PredictionRequest
from piwsl.models.potential import DirectPotential, Potential
from piwsl.runs.files import atomic_path
from piwsl.training.distributed.process_group import gathered, process_count, process_rank
from piwsl.training.loader import evaluation_loader, raise_if_error
from piwsl.training.metrics import ErrorCollector, Errors, ErrorSums
from piwsl.typing import FloatArray

WITH_STRESS = PredictionRequest(energies=frozenset({ORIGIN}), forces=frozenset({ORIGIN}), stress=True)


def predictions(
    potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype, batch_size: int = 50
) -> Iterator[tuple[Prediction, Batch]]:
    """Predictions for all frames in order, batch by batch."""
    for points, batch in _evaluated(potential, frames, cutoff, dtype, batch_size):
        yield points.prediction(ORIGIN), batch


def evaluate_potential(potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype) -> Errors:
    """Errors on all labels of a set of frames; the processes of a run share the work, and all get the result."""
    sums = ErrorSums()
    for points, batch in _evaluated(potential, frames, cutoff, dtype, 50, process_count(), process_rank()):
        sums.add(points, batch)
    return ErrorSums.merged(gathered(sums)).errors()


def labeled_points(potential: Potential, batch: Batch) -> PointPredictions:
    """Energies and forces of a batch, and its stress where there are labels of it; not made for training."""
    if bool(torch.isfinite(batch.stress).any()):
        return evaluate(potential, batch, [], WITH_STRESS)
    prediction = predict(potential, batch, create_graph=False)
    return PointPredictions(
        displacements=(),
        structure_index=batch.structure_index,
        n_atoms=batch.n_atoms,
        energies={ORIGIN: prediction.energies},
        forces={ORIGIN: prediction.forces},
    )


def _evaluated(
    potential: Potential,
    frames: FrameSet,
    cutoff: float,
    dtype: torch.dtype,
    batch_size: int,
    processes: int = 1,
    rank: int = 0,
) -> Iterator[tuple[PointPredictions, Batch]]:
    device = potential.scale.device
    for made in evaluation_loader(frames, batch_size, cutoff, dtype, processes, rank):
        batch = raise_if_error(made).to(device)
        yield labeled_points(potential, batch), batch


def curl_of(potential: DirectPotential, frames: FrameSet, cutoff: float, dtype: torch.dtype, most: int = 100) -> Curl:
    """Curl of direct forces for each of an even choice of at most ``most`` frames."""
    chosen = frames.select(range(0, len(frames), max(1, -(-len(frames) // most))))
    found = [measure_curl(potential, raise_if_error(made)) for made in evaluation_loader(chosen, 20, cutoff, dtype)]
    return Curl(torch.cat([curl.asymmetry for curl in found]), torch.cat([curl.mismatch for curl in found]))


_MOST_POINTS = 200_000


def parity_plot(collected: ErrorCollector, path: Path) -> None:
    """Draw energies per atom (relative to the mean label) and force components against their labels."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    atoms = np.concatenate(collected.atoms)
    labels = np.concatenate(collected.energy_labels) / np.maximum(atoms, 1)
    energies = np.concatenate(collected.energies) / np.maximum(atoms, 1)
    center = labels.mean() if labels.size else 0.0
    _panel(left, 1e3 * (labels - center), 1e3 * (energies - center), "energy [meV/atom]")
    forces, force_labels = np.concatenate(collected.forces), np.concatenate(collected.force_labels)
    _panel(right, force_labels.ravel(), forces.ravel(), "force component [eV/A]")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panel(axes: Axes, labels: FloatArray, predictions: FloatArray, name: str) -> None:
    axes.set_xlabel(f"reference {name}")
    axes.set_ylabel(f"predicted {name}")
    axes.spines[["top", "right"]].set_visible(False)
    if not labels.size:
        axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center")
        return
    chosen = np.random.default_rng(0).permutation(len(labels))[:_MOST_POINTS]
    low = min(labels.min(), predictions.min())
    high = max(labels.max(), predictions.max())
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    axes.plot(labels[chosen], predictions[chosen], ".", markersize=2, color="#0072B2", alpha=0.4, rasterized=True)
    axes.set_aspect("equal")
    error = np.abs(predictions - labels).mean()
    axes.text(0.04, 0.94, f"MAE {error:.3g}", transform=axes.transAxes, va="top")
