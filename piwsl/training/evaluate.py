"""Errors of a potential on labeled frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from piwsl.data.batch import Batch
from piwsl.data.domain import check_frames
from piwsl.data.frames import FrameSet
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import system_errors
from piwsl.export.trained_file import DTYPES, TrainedModel, check_elements, load_model
from piwsl.losses.curl import Curl, measure_curl
from piwsl.losses.evaluation import evaluate as evaluate_points
from piwsl.losses.predictions import ORIGIN, PointPredictions, Prediction, PredictionRequest, predict
from piwsl.models.potential import DirectPotential, Potential
from piwsl.runs import notebook
from piwsl.runs.files import atomic_path
from piwsl.runs.progress import counting
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
        return evaluate_points(potential, batch, [], WITH_STRESS)
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
    """Measure the curl of direct forces for an even choice of at most ``most`` frames."""
    chosen = frames.select(range(0, len(frames), max(1, -(-len(frames) // most))))
    batches = evaluation_loader(chosen, 20, cutoff, dtype)
    curls = [measure_curl(potential, raise_if_error(batch).to(potential.scale.device)) for batch in batches]
    return Curl(torch.cat([curl.asymmetry for curl in curls]), torch.cat([curl.mismatch for curl in curls]))


_MOST_POINTS = 200_000


def parity_figure(collected: ErrorCollector) -> Figure:
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
    return figure


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


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Errors of a trained model on labeled frames.

    Attributes:
        errors: mean errors of energies (eV), forces (eV/angstrom) and stress (eV/angstrom^3).
        energy_errors: (S,) predicted minus labeled energy of each frame, eV; NaN without a label.
        force_errors: (S,) root mean square error of the force components of each frame, eV/angstrom; NaN without
            labels.
        curl: asymmetry of the force Jacobian, for models with direct forces; None for conservative ones.
        notes: remarks on the data, and on energies that are off by a constant.
        source: what was read.
    """

    errors: Errors
    energy_errors: FloatArray
    force_errors: FloatArray
    curl: Curl | None
    notes: tuple[str, ...]
    source: str
    collected: ErrorCollector = field(repr=False)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw predictions against labels, and save the figure as PNG or SVG where a path is given."""
        figure = parity_figure(self.collected)
        if path is not None:
            with atomic_path(Path(path)) as temporary:
                figure.savefig(temporary, dpi=150)
        return figure

    def lines(self) -> list[str]:
        """Return the errors as text, with units."""
        lines = self.errors.lines()
        if self.curl is not None:
            lines.append(
                f"curl    |J - J^T| / |J + J^T| {float(self.curl.asymmetry.mean()):.3f} with J = dF/dx; "
                f"F + dE/dx RMS {1e3 * float(self.curl.mismatch.mean()):.1f} meV/A ({len(self.curl.mismatch)} frames)"
            )
        return lines

    def __repr__(self) -> str:
        errors = "; ".join(" ".join(line.split()) for line in self.lines())
        return f"Evaluation({len(self.energy_errors)} frames; {errors})"

    def _repr_html_(self) -> str:
        return notebook.block(
            notebook.heading(f"{len(self.energy_errors)} frames of {self.source}"),
            notebook.table(self.errors.rows(), ("", "MAE", "RMSE")),
            notebook.lines(f"note: {note}" for note in self.notes),
            notebook.picture(self.plot(), "predictions against labels"),
        )


@system_errors()
def evaluate(
    model: str | PathLike[str] | TrainedModel,
    data: FrameSource,
    *,
    units: str | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | bool | None = None,
    strict: bool = False,
) -> Evaluation:
    """Measure the errors of a trained model on labeled frames.

    Args:
        model: trained file, run directory of a training, or what `piwsl.load_model` returns.
        data: labeled frames, a file, a directory, a pattern, or a named data set.
        units: units of a file that does not state them, such as ``kcal/mol, angstrom``.
        device: ``cpu`` or ``cuda``.
        progress: called with (evaluated frames, all frames); True or False shows or hides a bar.
        strict: refuse frames outside of the training data, which are otherwise warned of.

    Raises:
        ModelFileError: the trained file is missing, damaged or not a file of piwsl.
        DataError: the data cannot be read.
        ElementError: a frame contains an element that the model was not trained on.
    """
    trained = model if isinstance(model, TrainedModel) else load_model(model)
    frames = as_frames(data, units)
    check_elements(trained, frames.elements)
    check_frames(trained.domain, frames, "the model" if isinstance(model, TrainedModel) else model, strict)
    potential, dtype = trained.potential().to(device), DTYPES[trained.dtype]
    collected = ErrorCollector()
    energy_errors, force_errors = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
    first = 0
    with counting(progress, "frames") as report:
        for points, batch in _evaluated(potential, frames, trained.cutoff, dtype, 50):
            prediction = points.prediction(ORIGIN)
            collected.add(prediction, batch, points.stress)
            last = first + batch.n_structures
            energy_errors[first:last] = (prediction.energies.detach() - batch.energy).cpu().numpy()
            squares = (prediction.forces.detach() - batch.forces).double().square().mean(-1).cpu()
            sums = torch.zeros(batch.n_structures, dtype=torch.float64)
            sums.index_add_(0, batch.structure_index.cpu(), squares)
            force_errors[first:last] = (sums / batch.n_atoms.cpu()).sqrt().numpy()
            first = last
            if report:
                report(first, len(frames))
    offset = collected.offset_note()
    curl = curl_of(potential, frames, trained.cutoff, dtype) if isinstance(potential, DirectPotential) else None
    return Evaluation(
        errors=collected.errors(),
        energy_errors=energy_errors,
        force_errors=force_errors,
        curl=curl,
        notes=(*frames.notes, *([offset] if offset else [])),
        source=str(data) if isinstance(data, str | PathLike) else str(frames.source or "memory"),
        collected=collected,
    )
