"""Errors of a potential on labelled frames."""

from collections.abc import Iterator

import torch

from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.losses.prediction import Prediction, predict
from piwsl.models.potential import Potential
from piwsl.training.loader import evaluation_loader
from piwsl.training.metrics import ErrorCollector, Errors


def predictions(
    potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype, batch_size: int = 50
) -> Iterator[tuple[Prediction, Batch]]:
    """Predictions for all frames in order, batch by batch."""
    for batch in evaluation_loader(frames, batch_size, cutoff, dtype):
        yield predict(potential, batch, create_graph=False), batch


def evaluate_potential(potential: Potential, frames: FrameSet, cutoff: float, dtype: torch.dtype) -> Errors:
    """Errors on all labels of a set of frames."""
    collector = ErrorCollector()
    for prediction, batch in predictions(potential, frames, cutoff, dtype):
        collector.add(prediction, batch)
    return collector.errors()
