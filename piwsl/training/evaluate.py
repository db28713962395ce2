"""Predictions and errors of a potential on labeled frames during training."""

from collections.abc import Iterator

import torch

from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.losses.curl import Curl, measure_curl
from piwsl.losses.evaluation import evaluate as evaluate_points
from piwsl.losses.predictions import ORIGIN, PointPredictions, Prediction, PredictionRequest, predict
from piwsl.models.potential import DirectPotential, Potential
from piwsl.training.distributed.process_group import gathered, process_count, process_rank
from piwsl.training.loader import evaluation_loader, raise_if_error
from piwsl.training.metrics import Errors, ErrorSums

WITH_STRESS = PredictionRequest(energies=frozenset({ORIGIN}), forces=frozenset({ORIGIN}), stress=True)


def predictions(
    potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype, batch_size: int = 50
) -> Iterator[tuple[Prediction, Batch]]:
    """Yield the predictions and the batch for all frames in order, batch by batch."""
    for points, batch in evaluated_batches(potential, frames, cutoff, dtype, batch_size):
        yield points.prediction(ORIGIN), batch


def evaluate_potential(potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype) -> Errors:
    """Return the errors on all labels of a set of frames.

    The processes of a run share the evaluation, and every process receives the result.
    """
    sums = ErrorSums()
    for points, batch in evaluated_batches(potential, frames, cutoff, dtype, 50, process_count(), process_rank()):
        sums.add(points, batch)
    return ErrorSums.merged(gathered(sums)).errors()


def labeled_points(potential: Potential, batch: Batch) -> PointPredictions:
    """Predict energies and forces of a batch, and the stress if the batch has stress labels.

    The results carry no graph for training.
    """
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


def evaluated_batches(
    potential: Potential,
    frames: FrameSet,
    cutoff: float,
    dtype: torch.dtype,
    batch_size: int,
    processes: int = 1,
    rank: int = 0,
) -> Iterator[tuple[PointPredictions, Batch]]:
    """Yield the predictions and the batch for the frames of one process, batch by batch."""
    device = potential.scale.device
    for made in evaluation_loader(frames, batch_size, cutoff, dtype, processes, rank):
        batch = raise_if_error(made).to(device)
        yield labeled_points(potential, batch), batch


def curl_of(potential: DirectPotential, frames: FrameSet, cutoff: float, dtype: torch.dtype, most: int = 100) -> Curl:
    """Measure the curl of direct forces on at most ``most`` evenly spaced frames."""
    chosen = frames.select(range(0, len(frames), max(1, -(-len(frames) // most))))
    batches = evaluation_loader(chosen, 20, cutoff, dtype)
    curls = [measure_curl(potential, raise_if_error(batch).to(potential.scale.device)) for batch in batches]
    return Curl(torch.cat([curl.asymmetry for curl in curls]), torch.cat([curl.mismatch for curl in curls]))
