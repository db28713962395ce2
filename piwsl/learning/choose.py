"""Choice of structures to label: physical, uncertain and different from each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.learning.committee import predict_frames
from piwsl.models.features import farthest_points
from piwsl.typing import FloatArray

# Structures with larger predicted forces are broken.
LARGEST_FORCE = 30.0  # eV/angstrom
# The structures are chosen among the most uncertain: this multiple of the number of structures, and at least a quarter.
_UNCERTAIN, _LEAST_SHARE = 4, 0.25


class Chosen:
    """Structures to label.

    Attributes:
        frames: Structures, without labels.
        energies: Predicted energies (S,), eV.
        spread: Median over the structures of the largest spread of a force, eV/angstrom; None for a single model.
    """

    def __init__(self, frames: list[Frame], energies: FloatArray, spread: float | None) -> None:
        self.frames, self.energies, self.spread = frames, energies, spread


def choose(candidates: Sequence[Frame], known: Sequence[Frame], models: Sequence[Path], count: int) -> Chosen:
    """Choose structures to label among the frames of dynamics.

    Frames on which the models disagree are preferred. Among them, each chosen structure is as far as possible from the
    others and from the labeled structures, in the features of the first model.

    Args:
        candidates: Frames of dynamics.
        known: Labeled structures.
        models: Trained files.
        count: Number of structures.
    """
    together = FrameSet([*known, *candidates])
    predicted = predict_frames(models, together)
    begin = len(known)
    largest = np.array([np.abs(forces).max() for forces in predicted.forces])
    usable = np.flatnonzero(np.isfinite(predicted.energies) & (largest < LARGEST_FORCE))
    usable = usable[usable >= begin]
    spreads = predicted.largest_spreads
    if spreads is not None:
        kept = max(_UNCERTAIN * count, int(_LEAST_SHARE * len(usable)))
        usable = usable[np.argsort(-spreads[usable], kind="stable")][:kept]
    chosen = usable[farthest_points(predicted.features[usable], predicted.features[:begin], count)]
    frames = [together[int(index)] for index in chosen]
    spread = None if spreads is None or not len(chosen) else float(np.median(spreads[chosen]))
    return Chosen(frames, predicted.energies[chosen], spread)
