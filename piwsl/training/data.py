"""The frames of a training run: read, split, and checked against the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Annotated, overload
from zlib import crc32

import numpy as np
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl.data.census import Census
from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.domain import TrainingDomain, undetermined_energies
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import DataReport, inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import are_determined, atom_energies, isolated_atoms
from piwsl.data.split import Split, random_split
from piwsl.data.systems import named_system
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.runs.files import read_json_object, source_hash
from piwsl.training.config import DataConfig, DisplacementConfig, LossConfig, TrainingConfig
from piwsl.training.objective import is_active
from piwsl.typing import BoolArray, IntArray
from piwsl.units import parse_units

_Index = Annotated[int, Field(ge=0)]
_FORCES_SHOWN = 3  # purpose of random numbers, beside 1 for the split and 2 for the order


@dataclass(frozen=True)
class LabelCounts:
    """Numbers of frames of a set with each kind of label."""

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
        train, validation, test: Forces that the run must not see are hidden in ``train``.
        split: Indices of the frames of each part.
        report: On all frames of the source.
        source: File, directory, pattern, or name of a data set.
        sha256: Hash of the source, see `piwsl.runs.files`.
        labels: Counts of ``training``, ``validation`` and ``test`` frames.
        atom_energies: Energies of single-atom frames, eV, by atomic number; these frames are in no part.
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
    _domains: dict[float, TrainingDomain] = field(default_factory=dict, compare=False, repr=False)

    def domain(self, cutoff: float, level: str | None) -> TrainingDomain:
        """Return what a model with this cutoff (angstrom) sees in training; it is measured once."""
        if cutoff not in self._domains:
            self._domains[cutoff] = TrainingDomain.of(self.train, cutoff, level, self.atom_energies)
        return self._domains[cutoff]

    def lines(self) -> list[str]:
        """Return the report, the split and the labels of each part as text, one fact a line."""
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test frames"
        counts = [f"{purpose + ' labels':<18} {count}" for purpose, count in self.labels.items() if count.frames]
        return [*self.report.lines(), f"split              {sizes}", *counts]


class HiddenForces(Sequence[Frame]):
    """Frames with the forces of some of them hidden; each is read on access.

    Attributes:
        base: The frames.
        shown: Whether the forces of a frame are shown (n,).
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
        """Return composition and remaining labels of every frame."""
        census = self.base.census
        return replace(census, has_forces=census.has_forces & self.shown)


def with_absolute_sources(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration with absolute paths; names of data sets stay as they are."""
    named = {key: getattr(config.data, key) for key in ("file", "test_file")}
    absolute = {key: _absolute(source) for key, source in named.items() if source is not None}
    return config.model_copy(update={"data": config.data.model_copy(update=absolute)})


def training_frames(config: TrainingConfig, split: Split | None = None) -> TrainingFrames:
    """Read and split the frames that a configuration names.

    Args:
        config: Configuration of the run; its seed determines the split.
        split: Split of an earlier session, used instead of a new one.

    Raises:
        ConfigError: No file and no system, or both; or the configuration asks for what the frames do not have.
        DataError: A file cannot be used.
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
    atoms = isolated_atoms(frames)
    atoms = atoms if len(atoms) < len(frames) else atoms[:0]  # a set of nothing but atoms is split like any other
    split = split or _split(data, frames, atoms, config.seed)
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
        atom_energies=atom_energies(frames.select(atoms)),
    )
    if len(atoms):
        energies = ", ".join(f"{chemical_symbols[z]} {energy:.4f}" for z, energy in result.atom_energies.items())
        result.report.notes.append(
            f"{len(atoms)} frames are single atoms: their energies are the reference energies [eV] ({energies}), and "
            "they are in no part of the split"
        )
    result.report.notes.extend(check_against_data(config, result))
    if result.labels["training"].energies and not are_determined(train, result.atom_energies):
        result.report.notes.append(undetermined_energies(len(train.census.formulas()), len(train.elements)))
    result.report.warnings.extend(unseen_element_warnings(result))
    return result


def check_against_data(config: TrainingConfig, frames: TrainingFrames) -> list[str]:
    """Compare a configuration with frames that were read; return notes for the user.

    Raises:
        ConfigError: A loss term has no label anywhere, or displacements are too long for these structures.
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


class _StoredSplit(BaseModel):
    """Content of the file: indices of frames, and hashes of the data, which earlier versions did not write."""

    model_config = ConfigDict(strict=True)

    train: list[_Index]
    validation: list[_Index]
    test: list[_Index]
    sha256: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "_StoredSplit":
        try:
            return cls.model_validate(read_json_object(path))
        except (RunDirectoryError, ValidationError):
            raise RunDirectoryError(f"{path} is damaged: the run cannot be resumed") from None


def stored_split(path: Path) -> Split | None:
    """Read the split that an earlier session of a run wrote; None if that session ended before it.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    if not path.exists():
        return None
    stored = _StoredSplit.read(path)
    return Split(stored.train, stored.validation, stored.test)


def hashes_of(frames: TrainingFrames) -> dict[str, str]:
    """Return the hashes of the data of a run, and of its test file if that is another one."""
    hashes = {"data": frames.sha256}
    if frames.test.files != frames.train.files:
        hashes["test file"] = source_hash(frames.test.files)
    return hashes


def check_unchanged(path: Path, frames: TrainingFrames) -> None:
    """Compare the data of a resumed run with those that it was split from.

    Args:
        path: File of the split, which earlier versions wrote without hashes.
        frames: Data that were read now.

    Raises:
        RunDirectoryError: The data changed.
    """
    if not path.exists():
        return
    earlier = _StoredSplit.read(path).sha256
    changed = [name for name, value in hashes_of(frames).items() if earlier.get(name, value) != value]
    if changed:
        raise RunDirectoryError(
            f"cannot resume {path.parent}: the {' and the '.join(changed)} of this run changed since it began "
            f"({frames.source}): restore the file, or start a new run with another output"
        )


def _absolute(source: str) -> str:
    path = Path(source)
    return source if is_dataset(source) and not path.exists() else str(path.resolve())


def _split(data: DataConfig, frames: FrameSet, atoms: IntArray, seed: int) -> Split:
    """Make a new split without single atoms; a named data set is split as published where no sizes are given."""
    validation, test = data.validation, data.test
    if data.file is not None and is_dataset(data.file):
        protocol = dataset(data.file).protocol
        validation = validation or protocol.validation
        test = protocol.test if test is None and data.test_file is None else test
    split = random_split(len(frames) - len(atoms), data.train, validation, test or 0, seed)
    if not len(atoms):
        return split
    others = np.setdiff1d(np.arange(len(frames)), atoms)
    return Split(*(others[part].tolist() for part in (split.train, split.validation, split.test)))


def uses_displacements(loss: LossConfig) -> bool:
    """Return whether a term uses displaced copies."""
    terms = (loss.pitc, loss.pisc, loss.pitc_back, loss.pisc_paths, loss.noisy_node, loss.taylor_labels)
    return any(is_active(coefficient) for coefficient in terms)


def check_labels(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> list[str]:
    """Compare the loss with the labels of the training frames; return notes for the user.

    A default term whose label no frame has is dropped with a note; a term that the user must have set is refused.

    Raises:
        ConfigError: A term has no label anywhere, or none is left that compares with labels.
    """
    labels = frames.labels["training"]
    where = f"no training frame of {frames.source} has"
    if not (labels.energies or labels.forces or labels.stresses):
        raise ConfigError(
            f"{frames.source}: no training frame has an energy, forces or stress: there is nothing to fit"
        )
    if is_active(loss.stress) and not labels.stresses:
        raise ConfigError(f"loss.stress: {where} a stress: set it to 0")
    if is_active(loss.taylor_labels) and not labels.both:
        raise ConfigError(f"loss.taylor_labels: {where} an energy and forces, which E_ref - d.F_ref needs: set it to 0")
    fits = {
        "energy": is_active(loss.energy) and bool(labels.energies),
        "forces": is_active(loss.forces) and bool(labels.forces),
        "stress": is_active(loss.stress) and bool(labels.stresses),
    }
    if is_active(loss.noisy_node) and not any(fits.values()):
        raise ConfigError(f"loss.noisy_node: {where} a label of a supervised term, which it repeats: set it to 0")
    if not any(fits.values()) and not is_active(loss.taylor_labels):
        raise ConfigError("no supervised loss is left: set loss.energy or loss.forces above zero where labels exist")
    needed = {"force_error": labels.forces, "energy_error": labels.energies}
    if uses_displacements(loss) and not needed.get(displacement.direction, 1):
        label = "forces" if displacement.direction == "force_error" else "an energy"
        raise ConfigError(
            f"displacement.direction: {displacement.direction}: {where} {label}: use normal, uniform or disagreement"
        )
    return _notes(loss, labels)


def fitting_loss(loss: LossConfig, frames: TrainingFrames) -> LossConfig:
    """Return the loss without the supervised terms whose label no training frame has.

    They would have no effect on a step, but the validation loss would choose the weights by labels that training must
    not use, such as forces that ``data.forces_fraction: 0`` hides.
    """
    labels = frames.labels["training"]
    counts = {"energy": labels.energies, "forces": labels.forces, "stress": labels.stresses}
    return loss.model_copy(update={name: 0.0 for name, count in counts.items() if not count})


def _notes(loss: LossConfig, labels: LabelCounts) -> list[str]:
    notes = []
    if is_active(loss.forces) and not labels.forces:
        notes.append("no training frame has forces: loss.forces is dropped, in the validation loss, too")
    if is_active(loss.energy) and not labels.energies:
        notes.append("no training frame has an energy: loss.energy is dropped, in the validation loss, too")
    if labels.energies and not labels.forces and uses_displacements(loss):
        notes.append(
            "energies only: PITC and PISC with too large coefficients flatten the surface; compare with loss.pitc=0"
        )
    if labels.stresses and not is_active(loss.stress):
        notes.append(f"{labels.stresses} training frames have a stress, which loss.stress = 0 does not use")
    return notes


def unseen_element_warnings(frames: TrainingFrames) -> list[str]:
    """Return warnings about elements that occur in validation or test frames only."""
    known = set(frames.train.elements)
    warnings = []
    for purpose, part in (("validation", frames.validation), ("test", frames.test)):
        new = [chemical_symbols[number] for number in part.elements if number not in known]
        if new:
            warnings.append(
                f"{purpose} frames hold {', '.join(new)}, which no training frame has: their errors mislead"
            )
    return warnings


def check_displacement(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> None:
    """Compare the length of displacements with the distances between atoms.

    A length of all 3N components counts with its share of one atom in the smallest structure.

    Raises:
        ConfigError: It is beyond the cap.
    """
    if not uses_displacements(loss):
        return
    length, cap = displacement.length, displacement.cap
    if displacement.measure == "nearest_neighbor":
        if length > cap:
            raise ConfigError(f"displacement.length: {length:.3g} of the nearest-neighbor distance: the cap is {cap}")
        return
    if displacement.norm == "structure":
        length = length / sqrt(frames.report.atoms[0])
    closest = frames.report.smallest_distance
    if length > cap * closest:
        raise ConfigError(
            f"displacement.length: {length:.3g} A, but two atoms of {frames.source} are {closest:.3f} A apart and "
            f"displacement.cap = {cap} allows {cap * closest:.3f} A: choose a smaller length"
        )
