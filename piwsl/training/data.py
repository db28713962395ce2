"""Read and split the frames of a training run, and check them against the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any, overload
from zlib import crc32

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.domain import TrainingDomain, undetermined_energies
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import DataReport, inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import (
    are_determined,
    atom_energies,
    energies_by_number,
    isolated_atoms,
    read_reference_energies,
)
from piwsl.data.split import Split, random_split
from piwsl.data.systems import named_system
from piwsl.errors import ConfigError, DataError
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights
from piwsl.models import ModelConfig
from piwsl.runs.files import source_hash
from piwsl.training.config import DataConfig, DisplacementConfig, LossConfig, TrainingConfig
from piwsl.training.objective import is_active
from piwsl.training.spread import spread_weights
from piwsl.training.unlabeled import frames_without_labels, with_unlabeled
from piwsl.typing import BoolArray, IntArray
from piwsl.units import parse_units

# Random stream of this module. Streams 1 and 2 are used for the split and for the order of the frames.
_FORCES_SHOWN = 3
SINGLE_ATOMS = "frames of one atom"  # source of reference energies


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


class HiddenForces(Sequence[Frame]):
    """Sequence of frames that hides the forces of some frames. Each frame is read on access.

    Attributes:
        base: Frames with all their labels.
        shown: Mask (n,) of the frames whose forces are visible.
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
        """Return the composition and the visible labels of every frame."""
        census = self.base.census
        return replace(census, has_forces=census.has_forces & self.shown)


def with_absolute_sources(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration with absolute paths. Names of data sets are unchanged."""
    named = {key: getattr(config.data, key) for key in ("file", "test_file", "unlabeled")}
    absolute: dict[str, str | Path] = {
        key: absolute_source(source) for key, source in named.items() if source is not None
    }
    if isinstance(config.data.reference_energies, Path):
        absolute["reference_energies"] = config.data.reference_energies.resolve()
    sections: dict[str, Any] = {"data": config.data.model_copy(update=absolute)}
    if config.teacher.file is not None:
        sections["teacher"] = config.teacher.model_copy(update={"file": config.teacher.file.resolve()})
    return config.model_copy(update=sections)


def training_frames(config: TrainingConfig, split: Split | None = None) -> TrainingFrames:
    """Read the frames specified in a configuration and split them.

    Args:
        config: Training configuration. Its seed determines the split.
        split: Split of an earlier session. With None, a new split is drawn.

    Raises:
        ConfigError: The configuration names neither a file nor a system, or both, or requires labels that the frames
            do not have.
        DataError: A file cannot be read or contains invalid frames.
    """
    data = config.data
    if (data.file is None) == (data.system is None):
        raise ConfigError("set either data.file or data.system (for instance `piwsl train --system aspirin`)")
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
    # A set that contains only single atoms is split as usual.
    atoms = atoms if len(atoms) < len(frames) else atoms[:0]
    split = split or _split(data, frames, np.union1d(atoms, frames_without_labels(frames)), config.seed)
    if max(max(part, default=0) for part in (split.train, split.validation, split.test)) >= len(frames):
        raise DataError(
            f"{source}: the file contains {len(frames)} frames, fewer than the split of this run requires: restore the "
            "original data, or start a new run with another output"
        )
    test = read_frames(test_source, units) if test_source else frames.select(split.test)
    train = with_forces_of(frames.select(split.train), data.forces_fraction, split)
    train, unlabeled, separate, notes = with_unlabeled(config, frames, train, split, units)
    spread, spread_notes = spread_weights(data, train)
    validation = frames.select(split.validation)
    parts = {"training": train, "validation": validation, "test": test}
    of_frames = atom_energies(frames.select(atoms))
    given, origin = _given_energies(data)
    result = TrainingFrames(
        train=train,
        validation=validation,
        test=test,
        split=split,
        report=inspect_frames(frames),
        source=Path(source),
        sha256=source_hash(frames.files),
        labels={purpose: LabelCounts.of(part) for purpose, part in parts.items()},
        atom_energies={**of_frames, **given},
        energy_sources={**dict.fromkeys(of_frames, SINGLE_ATOMS), **dict.fromkeys(given, origin)},
        unlabeled=unlabeled,
        unlabeled_sha256="" if separate is None else source_hash(separate.files),
        spread=spread,
    )
    result.report.notes.extend([*notes, *spread_notes])
    if given:
        _check_given(given, result)
    if len(atoms):
        energies = ", ".join(f"{chemical_symbols[z]} {energy:.4f}" for z, energy in of_frames.items())
        used = "are used" if not given else "are used for elements that data.reference_energies lacks"
        result.report.notes.append(
            f"{len(atoms)} frames contain a single atom: their energies {used} as reference energies [eV] "
            f"({energies}), and they are excluded from the split"
        )
    result.report.notes.extend(check_against_data(config, result))
    if result.labels["training"].energies and not are_determined(train, result.atom_energies):
        result.report.notes.append(undetermined_energies(len(train.census.formulas()), len(train.elements)))
    result.report.warnings.extend(unseen_element_warnings(result))
    result.report.warnings.extend(ignored_charge_warnings(config.model, result.train))
    return result


def _given_energies(data: DataConfig) -> tuple[dict[int, float], str]:
    """Return the energies (eV) of elements that a configuration gives, by atomic number, and their source."""
    given = data.reference_energies
    if isinstance(given, Path):
        units = parse_units(data.units) if data.units else None
        return read_reference_energies(given, units), f"file {given.name}"
    return energies_by_number(given) if given is not None else {}, "configuration"


def _check_given(given: Mapping[int, float], frames: TrainingFrames) -> None:
    """Raise an error if the energy of an element is missing.

    A fit of the missing elements would contradict the purpose of the given energies.
    """
    elements = sorted({*frames.train.elements, *frames.validation.elements})
    missing = [chemical_symbols[number] for number in elements if number not in frames.atom_energies]
    if missing:
        known = " ".join(chemical_symbols[number] for number in given)
        raise ConfigError(
            f"data.reference_energies: contains {known}, but the frames also contain {', '.join(missing)}: add the "
            "missing energies, or remove the key for a least-squares fit"
        )


def check_against_data(config: TrainingConfig, frames: TrainingFrames) -> list[str]:
    """Check a configuration against the frames and return notes for the user.

    Raises:
        ConfigError: No frame has the label of a loss term, or the displacements are too long for these structures.
    """
    notes = check_labels(config.loss, config.displacement, frames, config.start.replay is not None)
    check_displacement(config.loss, config.displacement, frames)
    return notes


def with_forces_of(frames: FrameSet, fraction: float, split: Split) -> FrameSet:
    """Hide the forces of all training frames except a given fraction.

    The split determines a random order of the frames. The forces of the first frames in this order remain visible, so
    the frames with forces at a smaller fraction are a subset of the frames with forces at a larger one.
    """
    if fraction >= 1:
        return frames
    seed = np.random.SeedSequence([crc32(np.array(split.train, dtype="<i8").tobytes()), _FORCES_SHOWN])
    order = np.random.default_rng(seed).permutation(len(frames))
    shown = np.zeros(len(frames), dtype=bool)
    shown[order[: round(fraction * len(frames))]] = True
    return replace(frames, frames=HiddenForces(frames, shown))


def absolute_source(source: str) -> str:
    """Return the absolute path of a source. Names of data sets are unchanged."""
    path = Path(source)
    return source if is_dataset(source) and not path.exists() else str(path.resolve())


def _split(data: DataConfig, frames: FrameSet, excluded: IntArray, seed: int) -> Split:
    """Return a new split without the excluded frames: single atoms, and frames without labels.

    For a named data set, sizes that are not set follow the published protocol.
    """
    validation, test = data.validation, data.test
    if data.file is not None and is_dataset(data.file):
        protocol = dataset(data.file).protocol
        validation = validation or protocol.validation
        test = protocol.test if test is None and data.test_file is None else test
    split = random_split(len(frames) - len(excluded), data.train, validation, test or 0, seed)
    if not len(excluded):
        return split
    others = np.setdiff1d(np.arange(len(frames)), excluded)
    return Split(*(others[part].tolist() for part in (split.train, split.validation, split.test)))


def uses_displacements(loss: LossConfig) -> bool:
    """Return whether an active loss term uses displaced copies."""
    terms = (loss.pitc, loss.pisc, loss.pitc_back, loss.pisc_paths, loss.noisy_node, loss.taylor_labels)
    return any(is_active(coefficient) for coefficient in (*terms, loss.teacher_pitc))


def check_labels(
    loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames, replay: bool = False
) -> list[str]:
    """Check the loss terms against the labels of the training frames and return notes for the user.

    If no frame has the label of a term that is active by default, a note reports that the term is dropped. A term that
    only the user can have activated raises an error instead.

    Raises:
        ConfigError: No training frame has the label of a term, or no supervised term is left.
    """
    labels = frames.labels["training"]
    where = f"no training frame of {frames.source} has"
    if not (labels.energies or labels.forces or labels.stresses):
        raise ConfigError(f"{frames.source}: no training frame has an energy, forces or stress: use data with labels")
    if is_active(loss.stress) and not labels.stresses:
        raise ConfigError(f"loss.stress: {where} a stress: set it to 0")
    if is_active(loss.taylor_labels) and not labels.both:
        raise ConfigError(f"loss.taylor_labels: {where} both energy and forces for E_ref - d.F_ref: set it to 0")
    fits = {
        "energy": is_active(loss.energy) and bool(labels.energies),
        "forces": is_active(loss.forces) and bool(labels.forces),
        "stress": is_active(loss.stress) and bool(labels.stresses),
    }
    if is_active(loss.noisy_node) and not any(fits.values()):
        raise ConfigError(f"loss.noisy_node: {where} a label of an active supervised term: set it to 0")
    if not any(fits.values()) and not is_active(loss.taylor_labels):
        raise ConfigError("no supervised loss is left: set loss.energy or loss.forces above zero where labels exist")
    needed = {"force_error": labels.forces, "energy_error": labels.energies}
    if uses_displacements(loss) and not needed.get(displacement.direction, 1):
        label = "forces" if displacement.direction == "force_error" else "an energy"
        raise ConfigError(
            f"displacement.direction: {displacement.direction}: {where} {label}: use normal, uniform or disagreement"
        )
    return _notes(loss, labels, replay)


def fitting_loss(loss: LossConfig, frames: TrainingFrames) -> LossConfig:
    """Return the loss configuration without the supervised terms whose label is missing in all training frames.

    Such a term has no effect on a training step. In the validation loss, however, it would select the weights by labels
    that training must not use, such as forces hidden by ``data.forces_fraction: 0``.
    """
    labels = frames.labels["training"]
    counts = {"energy": labels.energies, "forces": labels.forces, "stress": labels.stresses}
    return loss.model_copy(update={name: 0.0 for name, count in counts.items() if not count})


def _notes(loss: LossConfig, labels: LabelCounts, replay: bool) -> list[str]:
    notes = []
    dropped = (
        "holds the forces of replay frames to those of the start model and is dropped from"
        if replay
        else "is dropped, also from"
    )
    if is_active(loss.forces) and not labels.forces:
        notes.append(f"no training frame has forces: loss.forces {dropped} the validation loss")
    if is_active(loss.energy) and not labels.energies:
        notes.append(f"no training frame has an energy: loss.energy {dropped} the validation loss")
    if labels.energies and not labels.forces and uses_displacements(loss):
        notes.append(
            "the training frames have energies only: if their coefficients are too large, PITC and PISC flatten the "
            "potential energy surface; compare with a run with loss.pitc=0 and loss.pisc=0"
        )
    if labels.stresses and not is_active(loss.stress):
        notes.append(f"{labels.stresses} training frames have a stress, which is not used because loss.stress is 0")
    return notes


def unseen_element_warnings(frames: TrainingFrames) -> list[str]:
    """Return warnings about elements that occur only in validation or test frames."""
    known = set(frames.train.elements)
    warnings = []
    for purpose, part in (("validation", frames.validation), ("test", frames.test)):
        new = [chemical_symbols[number] for number in part.elements if number not in known]
        if new:
            warnings.append(
                f"{purpose} frames contain {', '.join(new)}, but no training frame does: the {purpose} errors are "
                "not meaningful"
            )
    return warnings


def ignored_charge_warnings(model: ModelConfig, train: FrameSet) -> list[str]:
    """Return a warning if the training frames have a charge or a spin that the network ignores."""
    if model.takes_charge:
        return []
    states = np.nan_to_num(train.census.charge_spin).astype(np.int64)
    ignored = int(states.any(1).sum())
    if not ignored:
        return []
    charges = ", ".join(f"{charge:+d}" for charge in np.unique(states[:, 0]) if charge)
    spins = ", ".join(str(unpaired) for unpaired in np.unique(states[:, 1]) if unpaired)
    text = " and ".join(
        [*([f"a charge ({charges})"] if charges else []), *([f"unpaired electrons ({spins})"] if spins else [])]
    )
    return [
        f"{ignored} of {len(train)} training frames have {text}, which network {model.network} ignores: use "
        "network so3lr, or painn with model.charge_embedding: true"
    ]


def check_displacement(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> None:
    """Raise an error if the displacements are too long for the distances between atoms.

    With ``norm: structure``, the length is divided by the square root of the smallest number of atoms, which gives the
    root mean square displacement of one atom.

    Raises:
        ConfigError: The length exceeds ``displacement.cap`` times the nearest-neighbor distance.
    """
    if not uses_displacements(loss):
        return
    length, cap = displacement.length, displacement.cap
    if displacement.measure == "nearest_neighbor":
        if length > cap:
            raise ConfigError(
                f"displacement.length: {length:.3g} exceeds displacement.cap = {cap}: choose a smaller length"
            )
        return
    if displacement.norm == "structure":
        length = length / sqrt(frames.report.atoms[0])
    closest = frames.report.smallest_distance
    if length > cap * closest:
        raise ConfigError(
            f"displacement.length: {length:.3g} A, but two atoms of {frames.source} are {closest:.3f} A apart and "
            f"displacement.cap = {cap} allows {cap * closest:.3f} A: choose a smaller length"
        )
