"""Errors of the mean prediction of several trained files."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.export.trained_file import DTYPES, load_trained
from piwsl.losses.predictions import Prediction
from piwsl.training.evaluate import predictions
from piwsl.training.metrics import ErrorCollector, Errors


def committee_errors(models: Sequence[Path], frames: FrameSet, device: torch.device) -> Errors:
    """Compute the errors of the mean prediction (energies and forces) of trained files on a device."""
    collector = ErrorCollector()
    each: list[Iterator[tuple[Prediction, Batch]]] = []
    for model in models:
        trained = load_trained(model)
        potential = trained.potential().to(device)
        each.append(predictions(potential, frames, trained.config.cutoff, DTYPES[trained.dtype]))
    for together in zip(*each, strict=True):
        mean = mean_prediction([prediction for prediction, _ in together])
        collector.add(mean, together[0][1])
    return collector.errors()


def mean_prediction(members: Sequence[Prediction]) -> Prediction:
    """Return the mean of several predictions for the same batch."""
    first = members[0]
    names = [field.name for field in fields(first) if isinstance(getattr(first, field.name), Tensor)]
    return replace(
        first, **{name: torch.stack([getattr(member, name) for member in members]).mean(0) for name in names}
    )
