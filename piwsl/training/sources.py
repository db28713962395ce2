"""The frames of a training run: read, judged, split."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload
from zlib import crc32

import numpy as np

from piwsl.data.census import Census
from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.split import Split, random_split
from piwsl.data.systems import named_system
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.runs.hashes import source_hash
from piwsl.training.checks import check_displacement, check_labels, unseen_element_warnings
from piwsl.training.config import DataConfig, TrainingConfig
from piwsl.training.data import LabelCounts, TrainingFrames
from piwsl.typing import BoolArray
from piwsl.units import parse_units

_FORCES_SHOWN = 3  # purpose of random numbers, beside 1 for the split and 2 for the order


class HiddenForces(Sequence[Frame]):
    """Frames of which some keep their forces for themselves; none is read before it is asked for.

    Attributes:
        base: the frames.
        shown: whether the forces of a frame are shown (n,).
    """

    def __init__(self, base: FrameSet, shown: BoolArray) -> None:
        self.base = base
        self.shown = shown

    def __len__(self) -> int:
        return len(self.base)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> "HiddenForces": ...

    def __getitem__(self, index: int | slice) -> "Frame | HiddenForces":
        if isinstance(index, slice):
            return HiddenForces(self.base.select(range(*index.indices(len(self)))), self.shown[index])
        frame = self.base[index]
        return frame if self.shown[index] else replace(frame, forces=np.full_like(frame.forces, np.nan))

    def census(self) -> Census:
        """Composition and remaining labels of every frame."""
        census = self.base.census
        return replace(census, has_forces=census.has_forces & self.shown)


def with_absolute_sources(config: TrainingConfig) -> TrainingConfig:
    """The same configuration, valid from any working directory; names of data sets stay names."""
    named = {key: getattr(config.data, key) for key in ("file", "test_file")}
    absolute = {key: _absolute(source) for key, source in named.items() if source is not None}
    return config.model_copy(update={"data": config.data.model_copy(update=absolute)})


def training_frames(config: TrainingConfig, split: Split | None = None) -> TrainingFrames:
    """Read and split the frames that a configuration names.

    Args:
        config: of the run; the seed decides the split.
        split: of an earlier start of the run, taken instead of a new one.

    Raises:
        ConfigError: no file and no system, or both; or the configuration asks for what the frames do not have.
        DataError: a file cannot be used.
    """
    data = config.data
    if (data.file is None) == (data.system is None):
        raise ConfigError("name either data.file or data.system (for instance `piwsl train --system aspirin`)")
    units = parse_units(data.units) if data.units else None
    test_source = data.test_file
    if data.system is not None:
        system = named_system(data.system)
        source, units = str(system.train), None
        if test_source is None and data.test is None:
            test_source = str(system.test)
    else:
        assert data.file is not None
        source = data.file
    frames = read_frames(source, units)
    split = split or _split(data, frames, config.seed)
    if max(max(part, default=0) for part in (split.train, split.validation, split.test)) >= len(frames):
        raise DataError(f"{source}: {len(frames)} frames are fewer than when this run was split: the data changed")
    test = read_frames(test_source, units) if test_source else frames.select(split.test)
    train = with_forces_of(frames.select(split.train), data.forces_fraction, split)
    validation = frames.select(split.validation)
    parts = {"training": train, "validation": validation, "test": test}
    result = TrainingFrames(
        train=train,
        validation=validation,
        test=test,
        split=split,
        report=inspect_frames(frames),
        source=Path(source),
        sha256=source_hash(frames.files),
        labels={purpose: LabelCounts.of(part) for purpose, part in parts.items()},
    )
    result.report.notes.extend(check_against_data(config, result))
    result.report.warnings.extend(unseen_element_warnings(result))
    return result


def check_against_data(config: TrainingConfig, frames: TrainingFrames) -> list[str]:
    """Compare a configuration with frames already read; notes for the user.

    Raises:
        ConfigError: a loss term has no label anywhere, or displacements are too long for these structures.
    """
    notes = check_labels(config.loss, config.displacement, frames)
    check_displacement(config.loss, config.displacement, frames)
    return notes


def with_forces_of(frames: FrameSet, fraction: float, split: Split) -> FrameSet:
    """Hide the forces of all but a share of the training frames.

    The frames are put in an order that belongs to the split, and the first of them are shown: those of a smaller
    fraction are among those of a larger one.
    """
    if fraction >= 1:
        return frames
    seed = np.random.SeedSequence([crc32(np.array(split.train, dtype="<i8").tobytes()), _FORCES_SHOWN])
    order = np.random.default_rng(seed).permutation(len(frames))
    shown = np.zeros(len(frames), dtype=bool)
    shown[order[: round(fraction * len(frames))]] = True
    return replace(frames, frames=HiddenForces(frames, shown))


def stored_split(path: Path) -> Split | None:
    """The split that an earlier start of a run wrote; None where it was interrupted before.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        return Split(*([int(index) for index in parts[name]] for name in ("train", "validation", "test")))
    except (OSError, KeyError, TypeError, ValueError):
        raise RunDirectoryError(f"{path} is damaged: the run cannot be resumed") from None


def _absolute(source: str) -> str:
    path = Path(source)
    return source if is_dataset(source) and not path.exists() else str(path.resolve())


def _split(data: DataConfig, frames: FrameSet, seed: int) -> Split:
    """A new split; a named data set is split as published where the sizes of its test or validation set are empty."""
    validation, test = data.validation, data.test
    if data.file is not None and is_dataset(data.file):
        protocol = dataset(data.file).protocol
        validation = validation or protocol.validation
        test = protocol.test if test is None and data.test_file is None else test
    return random_split(len(frames), data.train, validation, test or 0, seed)
