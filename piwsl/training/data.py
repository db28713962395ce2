"""Read and split the frames of a training run, and check them against the configuration."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload
from zlib import crc32

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.domain import undetermined_energies
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import evaluation_warnings, inspect_frames, structure_warnings
from piwsl.data.lazy import JoinedFrames
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import (
    are_determined,
    atom_energies,
    isolated_atoms,
)
from piwsl.data.split import Split, random_split
from piwsl.data.systems import named_system
from piwsl.errors import ConfigError, DataError
from piwsl.runs.files import source_hash
from piwsl.training.atoms import SINGLE_ATOMS, known_atom_energies, refit_words
from piwsl.training.config import TrainingConfig
from piwsl.training.data_checks import check_against_data, ignored_charge_warnings, unseen_element_warnings
from piwsl.training.data_config import DataConfig, LevelConfig
from piwsl.training.frames import LabelCounts, TrainingFrames
from piwsl.training.levels import further_levels, level_of_source
from piwsl.training.spread import spread_weights
from piwsl.training.unlabeled import frames_without_labels, with_unlabeled
from piwsl.typing import BoolArray, IntArray
from piwsl.units import parse_units

# Random stream of this module. Streams 1 and 2 are used for the split and for the order of the frames.
_FORCES_SHOWN = 3


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
    absolute = _absolute(config.data, "file", "test_file", "unlabeled")
    if config.data.levels is not None:
        levels = config.data.levels.items()
        absolute["levels"] = {name: source.model_copy(update=_absolute(source, "file")) for name, source in levels}
    sections: dict[str, Any] = {"data": config.data.model_copy(update=absolute)}
    if config.teacher.file is not None:
        sections["teacher"] = config.teacher.model_copy(update={"file": config.teacher.file.resolve()})
    return config.model_copy(update=sections)


def _absolute(section: DataConfig | LevelConfig, *keys: str) -> dict[str, Any]:
    """Return the absolute paths of the sources under some keys, and of a file with reference energies."""
    named = {key: getattr(section, key) for key in keys}
    absolute: dict[str, Any] = {key: absolute_source(source) for key, source in named.items() if source is not None}
    if isinstance(section.reference_energies, Path):
        absolute["reference_energies"] = section.reference_energies.resolve()
    return absolute


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
    atoms = isolated_atoms(frames, config.model.cutoff)
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
    level = data.level or level_of_source(source)
    levels = further_levels(config, level, split)
    main = train
    if levels:
        joined = JoinedFrames([main, *(further.frames for further in levels)])
        train = FrameSet(joined, main.source, main.notes, main.files, main.names)
        split = replace(split, levels={further.name: further.indices for further in levels})
    spread, spread_notes = spread_weights(data, train)
    validation = frames.select(split.validation)
    parts = {"training": main, "validation": validation, "test": test}
    given_units = parse_units(data.units) if data.units else None
    energies, energy_sources = known_atom_energies(frames.select(atoms), data.reference_energies, given_units, config)
    result = TrainingFrames(
        train=train,
        validation=validation,
        test=test,
        split=split,
        report=inspect_frames(frames),
        source=Path(source),
        sha256=source_hash(frames.files),
        labels={purpose: LabelCounts.of(part) for purpose, part in parts.items()},
        atom_energies=energies,
        energy_sources=energy_sources,
        unlabeled=unlabeled,
        unlabeled_sha256="" if separate is None else source_hash(separate.files),
        spread=spread,
        level=level,
        levels=levels,
    )
    result.report.notes.extend([*notes, *spread_notes])
    if data.reference_energies is not None:
        _check_given(result)
    if len(atoms):
        result.report.notes.append(_atoms_note(config, frames.select(atoms)))
    result.report.notes.extend(check_against_data(config, result))
    if result.labels["training"].energies and not are_determined(main, result.atom_energies):
        result.report.notes.append(undetermined_energies(len(main.census.formulas()), len(main.elements)))
    for further in levels:
        result.report.notes.extend(further.notes)
        result.report.warnings.extend(f"level {further.name}: {warning}" for warning in further.report.warnings)
    others = [("data.test_file", evaluation_warnings(test))] if data.test_file is not None else []
    others += [("data.unlabeled", structure_warnings(separate))] if separate is not None else []
    result.report.warnings.extend(f"{key}: {warning}" for key, warnings in others for warning in warnings)
    result.report.warnings.extend(unseen_element_warnings(result))
    result.report.warnings.extend(ignored_charge_warnings(config.model, result.train))
    return result


def _atoms_note(config: TrainingConfig, atoms: FrameSet) -> str:
    """Return a sentence on the use of frames of one atom."""
    energies = ", ".join(f"{chemical_symbols[z]} {energy:.4f}" for z, energy in atom_energies(atoms).items())
    used = "are used as reference energies"
    if config.data.reference_energies is not None:
        used = "are used for elements that data.reference_energies lacks as reference energies"
    elif config.start.init_from is not None:
        used = f"are not used as reference energies ({refit_words(config)})"
    return (
        f"{len(atoms)} frames contain a single atom: their energies {used} [eV] ({energies}), and they are excluded "
        "from the split"
    )


def _check_given(frames: TrainingFrames) -> None:
    """Raise an error if the energy of an element is missing.

    A fit of the missing elements would contradict the purpose of the given energies.
    """
    elements = sorted({*frames.main.elements, *frames.validation.elements})
    missing = [chemical_symbols[number] for number in elements if number not in frames.atom_energies]
    if missing:
        given = [number for number, source in frames.energy_sources.items() if source != SINGLE_ATOMS]
        known = " ".join(chemical_symbols[number] for number in given)
        raise ConfigError(
            f"data.reference_energies: contains {known}, but the frames also contain {', '.join(missing)}: add the "
            "missing energies, or remove the key for a least-squares fit"
        )


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
