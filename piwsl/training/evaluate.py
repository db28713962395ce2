"""Errors of a potential on labelled frames."""

from collections.abc import Iterator

import torch

from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.losses.curl import Curl, measure_curl
from piwsl.losses.evaluation import evaluate
from piwsl.losses.points import Points
from piwsl.losses.prediction import Prediction, predict
from piwsl.losses.request import ORIGIN, Request
from piwsl.models.direct import DirectPotential
from piwsl.models.potential import Potential
from piwsl.training.loader import evaluation_loader, usable
from piwsl.training.metrics import Errors, ErrorSums
from piwsl.training.parallel import gathered, process_count, process_rank

WITH_STRESS = Request(energies=frozenset({ORIGIN}), forces=frozenset({ORIGIN}), stress=True)


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


def labelled_points(potential: Potential, batch: Batch) -> Points:
    """Energies and forces of a batch, and its stress where there are labels of it; not made for training."""
    if bool(torch.isfinite(batch.stress).any()):
        return evaluate(potential, batch, [], WITH_STRESS)
    prediction = predict(potential, batch, create_graph=False)
    return Points(
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
) -> Iterator[tuple[Points, Batch]]:
    device = potential.scale.device
    for made in evaluation_loader(frames, batch_size, cutoff, dtype, processes, rank):
        batch = usable(made).to(device)
        yield labelled_points(potential, batch), batch


def curl_of(potential: DirectPotential, frames: FrameSet, cutoff: float, dtype: torch.dtype, most: int = 100) -> Curl:
    """Curl of direct forces for each of an even choice of at most ``most`` frames."""
    chosen = frames.select(range(0, len(frames), max(1, -(-len(frames) // most))))
    found = [measure_curl(potential, usable(made)) for made in evaluation_loader(chosen, 20, cutoff, dtype)]
    return Curl(torch.cat([curl.asymmetry for curl in found]), torch.cat([curl.mismatch for curl in found]))
