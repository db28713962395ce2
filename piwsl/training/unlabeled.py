"""Training frames without labels, which only label-free terms and teacher terms use."""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.lazy import JoinedFrames
from piwsl.data.read import read_frames
from piwsl.data.split import Split
from piwsl.errors import ConfigError, DataError
from piwsl.training.config import TrainingConfig
from piwsl.training.objective import is_active
from piwsl.typing import IntArray
from piwsl.units import LabelUnits

_LABEL_FREE = (
    "pitc",
    "pisc",
    "pitc_back",
    "pisc_paths",
    "teacher_forces",
    "teacher_pitc",
    "teacher_curvature",
)


class HiddenLabels(Sequence[Frame]):
    """Sequence of frames whose labels are hidden. Each frame is read on access."""

    def __init__(self, base: FrameSet) -> None:
        self.base = base

    def __len__(self) -> int:
        return len(self.base)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> "HiddenLabels": ...

    def __getitem__(self, index: int | slice) -> "Frame | HiddenLabels":
        if isinstance(index, slice):
            return HiddenLabels(self.base.select(range(*index.indices(len(self)))))
        return self.base[index].without_labels()

    def census(self) -> Census:
        """Return the composition of every frame, without labels."""
        census = self.base.census
        none = np.zeros(len(self), dtype=bool)
        energy = np.full(len(self), np.nan)
        return replace(census, energy=energy, has_forces=none, has_stress=none, unusable_stress=none, has_spread=none)


def frames_without_labels(frames: FrameSet) -> IntArray:
    """Return the indices of frames without any label; none of them if no frame has a label."""
    bare = np.flatnonzero(~frames.census.labeled)
    return bare if len(bare) < len(frames) else bare[:0]


def with_unlabeled(
    config: TrainingConfig, frames: FrameSet, train: FrameSet, split: Split, units: LabelUnits | None
) -> tuple[FrameSet, int, FrameSet | None, list[str]]:
    """Append frames without labels to the training frames.

    They are the frames of the source without any label and the frames of ``data.unlabeled``, whose labels are ignored.
    If no active loss term can use them, they are left out.

    Args:
        config: Training configuration.
        frames: All frames of the source.
        train: Labeled training frames.
        split: Indices of the labeled frames.
        units: Units of the source.

    Returns:
        All training frames, the number of frames without labels at their end, the frames of ``data.unlabeled``, and
        notes for the user.

    Raises:
        ConfigError: No term uses the frames of ``data.unlabeled``, or an element occurs in no labeled frame.
        DataError: The frames of ``data.unlabeled`` cannot be read.
    """
    chosen = np.setdiff1d(frames_without_labels(frames), [*split.train, *split.validation, *split.test])
    terms = [name for name in _LABEL_FREE if is_active(getattr(config.loss, name))]
    source = config.data.unlabeled
    if source is not None and not terms:
        raise ConfigError(
            "data.unlabeled: no active loss term uses frames without labels: set loss.pitc or loss.teacher_forces "
            "above 0, or remove the key"
        )
    if len(chosen) and not terms:
        return train, 0, None, [f"{len(chosen)} frames have no label and are not used: no active loss term needs them"]
    parts = [HiddenLabels(frames.select(chosen))] if len(chosen) else []
    separate = None
    notes = []
    if source is not None:
        separate, is_angstrom = _read(source, units)
        if is_angstrom and units is not None and units.length != 1.0:
            notes.append(f"data.unlabeled: {source} is read in angstrom, not in the unit of length of data.units")
        parts.append(HiddenLabels(separate))
    if not parts:
        return train, 0, None, []
    bare = FrameSet(JoinedFrames([FrameSet(part) for part in parts]))
    new = [chemical_symbols[number] for number in bare.elements if number not in set(train.elements)]
    if new and config.start.init_from is None:
        raise ConfigError(
            f"frames without labels contain {', '.join(new)}, but no labeled training frame does, so that the energies "
            "of these elements are undetermined: remove these frames, or add labels"
        )
    share = config.data.unlabeled_share
    note = f"{len(bare)} training frames have no label: they fill {share:.0%} of each batch, for {', '.join(terms)}"
    joined = FrameSet(JoinedFrames([train, bare]), train.source, train.notes, train.files, train.names)
    return joined, len(bare), separate, [note, *notes]


def _read(source: str, units: LabelUnits | None) -> tuple[FrameSet, bool]:
    """Read frames, with the units of the training data if the file requires units.

    Returns:
        The frames, and whether they were read without these units.
    """
    try:
        return read_frames(source), True
    except DataError:
        if units is None:
            raise
        return read_frames(source, units), False
