"""Frames of a training run with their split, data report and label counts."""

from dataclasses import astuple, dataclass, field
from pathlib import Path

from piwsl.data.domain import TrainingDomain
from piwsl.data.frames import FrameSet
from piwsl.data.inspect import DataReport
from piwsl.data.split import Split
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights
from piwsl.models import ModelConfig
from piwsl.training.data_config import MAIN_LEVEL

# Up to this number of training frames, models with random weights have walls by default, and other networks are better.
FEW_LABELS = 1000


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

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"energies on {self.energies}, forces on {self.forces}, stress on {self.stresses} of {self.frames} frames"
        )


@dataclass(frozen=True)
class FurtherLevel:
    """Training frames of a further level of theory.

    Attributes:
        name: Name of the level.
        frames: Training frames, each with the index of the level.
        indices: Indices of the frames in the source.
        level: Level of theory of the labels, known for named data sets; otherwise the name.
        source: File, directory, pattern, or name of a data set.
        sha256: Hash of the source, see `piwsl.runs.files`.
        report: Report on all frames of the source.
        labels: Label counts of the training frames.
        atom_energies: Energies (eV) of isolated atoms by atomic number, from the configuration or from single-atom
            frames. These frames are not training frames.
        energy_sources: Source of each of the ``atom_energies``, for the log.
        notes: Remarks, one per line.
    """

    name: str
    frames: FrameSet
    indices: list[int]
    level: str
    source: Path
    sha256: str
    report: DataReport
    labels: LabelCounts
    atom_energies: dict[int, float] = field(default_factory=dict)
    energy_sources: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the label counts and the source as a line of text."""
        return f"{'level ' + self.name:<18} {self.labels}, from {self.source}"


@dataclass(frozen=True)
class TrainingFrames:
    """Training, validation and test frames of a run.

    Attributes:
        train: Training frames: labeled frames, then frames without labels, then those of further levels. Forces that
            the run must not use are hidden.
        validation: Validation frames.
        test: Test frames.
        split: Indices of the training, validation and test frames.
        report: Report on all frames of the source.
        source: File, directory, pattern, or name of a data set.
        sha256: Hash of the source, see `piwsl.runs.files`.
        labels: Label counts of the ``training``, ``validation`` and ``test`` frames, without further levels.
        atom_energies: Energies (eV) of isolated atoms by atomic number, from the configuration or from single-atom
            frames. These frames are excluded from the split.
        energy_sources: Source of each of the ``atom_energies``, for the log.
        unlabeled: Number of training frames without labels.
        unlabeled_sha256: Hash of the file with further frames without labels; empty if there is none.
        spread: Weights of the labels by the spread of the ensemble that computed them.
        level: Level of theory of the labels, without further levels; None if it is unknown.
        levels: Further levels of theory.
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
    level: str | None = None
    levels: tuple[FurtherLevel, ...] = ()
    _domains: dict[object, TrainingDomain] = field(default_factory=dict, compare=False, repr=False)

    @property
    def main_level(self) -> str:
        """Name of the main level, that of the validation and test frames."""
        return self.level or MAIN_LEVEL

    @property
    def main(self) -> FrameSet:
        """Training frames of the main level, with and without labels."""
        further = self.further
        return self.train.select(range(len(self.train) - further)) if further else self.train

    @property
    def further(self) -> int:
        """Number of training frames of further levels."""
        return sum(len(level.frames) for level in self.levels)

    @property
    def all_labels(self) -> LabelCounts:
        """Label counts of the training frames of all levels."""
        return sum((level.labels for level in self.levels), self.labels["training"])

    def domain(self, model: ModelConfig, level: FurtherLevel | None = None) -> TrainingDomain:
        """Return the training domain of a model at the main level, or at a further level. The result is cached."""
        key, charge = (model.cutoff, model.default_charge, level and level.name), model.default_charge
        if key not in self._domains:
            frames, theory, energies = self.main, self.level, self.atom_energies
            if level is not None:
                frames, theory, energies = level.frames, level.level, level.atom_energies
            self._domains[key] = TrainingDomain.of(frames, model.cutoff, theory, energies, charge)
        return self._domains[key]

    def lines(self) -> list[str]:
        """Return the data report, the sizes of the split, and the label counts as lines of text."""
        sizes = f"{len(self.main)} training, {len(self.validation)} validation, {len(self.test)} test frames"
        counts = [f"{purpose + ' labels':<18} {count}" for purpose, count in self.labels.items() if count.frames]
        levels = [level.line() for level in self.levels]
        if levels:
            levels.insert(0, f"main level         {self.main_level}, with the validation and test frames")
        return [*self.report.lines(), f"split              {sizes}", *counts, *levels]
