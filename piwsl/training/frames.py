"""Frames of a training run with their split, data report and label counts."""

from dataclasses import dataclass, field
from pathlib import Path

from piwsl.data.domain import TrainingDomain
from piwsl.data.frames import FrameSet
from piwsl.data.inspect import DataReport
from piwsl.data.split import Split
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights
from piwsl.models import ModelConfig


@dataclass(frozen=True)
class LabelCounts:
    """Number of frames with each kind of label in a set."""

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
    """Training, validation and test frames of a run.

    Attributes:
        train: Training frames. Forces that the run must not use are hidden.
        validation: Validation frames.
        test: Test frames.
        split: Indices of the training, validation and test frames.
        report: Report on all frames of the source.
        source: File, directory, pattern, or name of a data set.
        sha256: Hash of the source, see `piwsl.runs.files`.
        labels: Label counts of the ``training``, ``validation`` and ``test`` frames.
        atom_energies: Energies (eV) of isolated atoms by atomic number, from the configuration or from single-atom
            frames. These frames are excluded from the split.
        energy_sources: Source of each of the ``atom_energies``, for the log.
        unlabeled: Number of frames without labels at the end of the training frames.
        unlabeled_sha256: Hash of the file with further frames without labels; empty if there is none.
        spread: Weights of the labels by the spread of the ensemble that computed them.
    """

    train: FrameSet
    validation: FrameSet
    test: FrameSet
    split: Split
    report: DataReport
    source: Path
    sha256: str
    labels: dict[str, LabelCounts]
    atom_energies: dict[int, float] = field(default_factory=dict)
    energy_sources: dict[int, str] = field(default_factory=dict)
    unlabeled: int = 0
    unlabeled_sha256: str = ""
    spread: SpreadWeights = EQUAL_WEIGHTS
    _domains: dict[object, TrainingDomain] = field(default_factory=dict, compare=False, repr=False)

    def domain(self, model: ModelConfig, level: str | None) -> TrainingDomain:
        """Return the training domain of a model. The result is cached."""
        key, charge = (model.cutoff, model.default_charge), model.default_charge
        if key not in self._domains:
            self._domains[key] = TrainingDomain.of(self.train, model.cutoff, level, self.atom_energies, charge)
        return self._domains[key]

    def lines(self) -> list[str]:
        """Return the data report, the sizes of the split, and the label counts as lines of text."""
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test frames"
        counts = [f"{purpose + ' labels':<18} {count}" for purpose, count in self.labels.items() if count.frames]
        return [*self.report.lines(), f"split              {sizes}", *counts]
