"""The frames of a training run: read, judged, split."""

from dataclasses import dataclass
from pathlib import Path

from piwsl.data.files import sha256
from piwsl.data.frames import FrameSet
from piwsl.data.inspect import DataReport, inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.split import Split, random_split
from piwsl.data.systems import named_system
from piwsl.errors import ConfigError
from piwsl.training.sections import DataConfig, LossConfig
from piwsl.units import parse_units


@dataclass(frozen=True)
class TrainingFrames:
    """Frames of a run by purpose, with the report on all of them and the hash of their file."""

    train: FrameSet
    validation: FrameSet
    test: FrameSet
    split: Split
    report: DataReport
    source: Path
    sha256: str


def training_frames(data: DataConfig, loss: LossConfig, seed: int) -> TrainingFrames:
    """Read and split the frames that a configuration names.

    Raises:
        ConfigError: no file and no system, or both; or a loss term has no label anywhere.
        DataError: a file cannot be used.
    """
    if (data.file is None) == (data.system is None):
        raise ConfigError("name either data.file or data.system (for instance `piwsl train --system aspirin`)")
    units = parse_units(data.units) if data.units else None
    test_file = Path(data.test_file) if data.test_file else None
    if data.system is not None:
        system = named_system(data.system)
        source, units = system.train, None
        test_file = test_file or (None if data.test else system.test)
    else:
        assert data.file is not None
        source = Path(data.file)
    frames = read_frames(source, units)
    split = random_split(len(frames), data.train, data.validation, data.test or 0, seed)
    test = read_frames(test_file, units) if test_file else frames.select(split.test)
    result = TrainingFrames(
        train=frames.select(split.train),
        validation=frames.select(split.validation),
        test=test,
        split=split,
        report=inspect_frames(frames),
        source=source,
        sha256=sha256(source),
    )
    _check_labels(result, loss)
    return result


def _check_labels(frames: TrainingFrames, loss: LossConfig) -> None:
    energies = any(frame.has_energy for frame in frames.train)
    forces = any(frame.has_forces for frame in frames.train)
    if energies and not forces and (loss.pitc != 0 or loss.pisc != 0):
        frames.report.warnings.append(
            "energies only: PITC and PISC with too large coefficients flatten the surface; compare with loss.pitc=0"
        )
    if not energies and not forces:
        raise ConfigError(f"{frames.source}: no training frame has an energy or forces: there is nothing to fit")
    if loss.energy == 0 and (loss.forces == 0 or not forces):
        raise ConfigError("no supervised loss is left: set loss.energy or loss.forces above zero where labels exist")
