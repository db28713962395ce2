"""The frames of a training run by purpose, and which labels they have."""

from dataclasses import dataclass
from pathlib import Path

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import DataReport
from piwsl.data.split import Split


@dataclass(frozen=True)
class LabelCounts:
    """How many frames of a set have which labels."""

    frames: int
    energies: int
    forces: int
    both: int
    stresses: int

    @classmethod
    def of(cls, frames: FrameSet) -> "LabelCounts":
        """Count the labels of a set."""
        census = frames.census
        energy, forces = census.has_energy, census.has_forces
        counts = (energy, forces, energy & forces, census.has_stress)
        return cls(len(frames), *(int(labeled.sum()) for labeled in counts))

    def __str__(self) -> str:
        return (
            f"energies on {self.energies}, forces on {self.forces}, stress on {self.stresses} of {self.frames} frames"
        )


@dataclass(frozen=True)
class TrainingFrames:
    """Frames of a run by purpose.

    Attributes:
        train, validation, test: forces that the run must not see are hidden in ``train``.
        split: indices of the frames of each part.
        report: on all frames of the source.
        source: file, directory, pattern, or name of a data set.
        sha256: of the source, see `piwsl.runs.hashes`.
        labels: counts of ``training``, ``validation`` and ``test`` frames.
    """

    train: FrameSet
    validation: FrameSet
    test: FrameSet
    split: Split
    report: DataReport
    source: Path
    sha256: str
    labels: dict[str, LabelCounts]

    def lines(self) -> list[str]:
        """The report, the split and the labels of each part as text, one fact a line."""
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test frames"
        counts = [f"{purpose + ' labels':<18} {count}" for purpose, count in self.labels.items() if count.frames]
        return [*self.report.lines(), f"split              {sizes}", *counts]
