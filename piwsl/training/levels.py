"""Training frames of further levels of theory (`data.levels`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.datasets import dataset, is_dataset
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import isolated_atoms
from piwsl.data.split import Split
from piwsl.data.systems import BUNDLED_LEVEL, SYSTEMS
from piwsl.errors import ConfigError, DataError
from piwsl.runs.files import source_hash
from piwsl.training.atoms import known_atom_energies, refit_words
from piwsl.training.config import TrainingConfig
from piwsl.training.data_config import MAIN_LEVEL, LevelConfig, check_main_level
from piwsl.training.frames import FurtherLevel, LabelCounts
from piwsl.typing import IntArray
from piwsl.units import parse_units

_CHOICE = 7  # random stream of this module; 1 to 6 belong to the split, the orders, hidden forces and replay


class AtLevel(Sequence[Frame]):
    """Sequence of frames at a level of theory. Each frame is read on access.

    Attributes:
        base: Frames.
        level: Index of the level.
    """

    def __init__(self, base: FrameSet, level: int) -> None:
        self.base = base
        self.level = level

    def __len__(self) -> int:
        return len(self.base)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> "AtLevel": ...

    def __getitem__(self, index: int | slice) -> "Frame | AtLevel":
        if isinstance(index, slice):
            return AtLevel(self.base.select(range(*index.indices(len(self)))), self.level)
        return replace(self.base[index], level=self.level)

    def census(self) -> Census:
        """Return the composition and the labels of every frame."""
        return self.base.census


def level_of_source(source: str | Path) -> str | None:
    """Return the level of theory of the labels in a bundled system or a named data set; None for other sources."""
    if Path(source) in [system.train for system in SYSTEMS.values()]:
        return BUNDLED_LEVEL
    return dataset(str(source)).level if is_dataset(str(source)) else None


def further_levels(config: TrainingConfig, main: str | None, split: Split | None) -> tuple[FurtherLevel, ...]:
    """Read the frames of the further levels of a configuration.

    Args:
        config: Training configuration. Its seed determines which frames of a level are chosen.
        main: Level of theory of the other frames; None if it is unknown.
        split: Split of an earlier session, with the frames that it chose.

    Raises:
        ConfigError: A level has the name of the main level, or no label.
        DataError: A source cannot be read, or contains fewer frames than required.
    """
    sources = config.data.levels or {}
    check_main_level(main or MAIN_LEVEL, sources)
    stored = {} if split is None else split.levels
    return tuple(
        _further_level(name, index, source, config, stored.get(name))
        for index, (name, source) in enumerate(sources.items(), start=1)
    )


def _further_level(
    name: str, index: int, config: LevelConfig, run: TrainingConfig, stored: list[int] | None
) -> FurtherLevel:
    where = f"data.levels: {name}"
    units = parse_units(config.units) if config.units else None
    try:
        frames = read_frames(config.file, units)
        energies, sources = known_atom_energies(frames, config.reference_energies, units, run)
    except DataError as error:
        # The argument `units` and the option of the command line belong to the main level.
        text = str(error).replace("give them, such as units=", "set the key units of the level, such as ")
        raise type(error)(f"{where}: {text}") from None
    atoms = isolated_atoms(frames, run.model.cutoff)
    usable = np.setdiff1d(np.flatnonzero(frames.census.labeled), atoms)
    if not len(usable):
        raise ConfigError(f"{where}: no frame of {config.file} has a label: remove the level, or add labels")
    chosen = _chosen(where, config, usable, run.seed, index) if stored is None else np.array(stored, dtype=np.int64)
    if chosen.max() >= len(frames):
        raise DataError(
            f"{where}: {config.file} contains {len(frames)} frames, fewer than this run requires: restore the original "
            "data, or start a new run with another output"
        )
    picked = frames.select(chosen)
    missing = [chemical_symbols[number] for number in picked.elements if number not in energies]
    if config.reference_energies is not None and missing:
        raise ConfigError(
            f"{where}: reference_energies lacks {', '.join(missing)}: add the missing energies, or remove the key for "
            "a least-squares fit"
        )
    used = (
        f"not used ({refit_words(run)})"
        if run.start.init_from is not None and config.reference_energies is None
        else "used"
    )
    left_out = {f"contain a single atom, whose energy is {used},": len(atoms)}
    left_out["have no label"] = len(frames) - len(atoms) - len(usable)
    return FurtherLevel(
        name=name,
        frames=FrameSet(AtLevel(picked, index), picked.source, picked.notes, picked.files, picked.names),
        indices=chosen.tolist(),
        level=level_of_source(config.file) or name,
        source=Path(config.file),
        sha256=source_hash(frames.files),
        report=inspect_frames(frames),
        labels=LabelCounts.of(picked),
        atom_energies=energies,
        energy_sources=sources,
        notes=tuple(
            f"level {name}: {count} frames {why} and are no training frames" for why, count in left_out.items() if count
        ),
    )


def _chosen(where: str, config: LevelConfig, usable: IntArray, seed: int, index: int) -> IntArray:
    """Return the indices of the training frames: all labeled frames, or a random selection."""
    if config.train is None:
        return usable
    if config.train > len(usable):
        raise DataError(
            f"{where}: cannot take {config.train} frames from {len(usable)} labeled frames of {config.file}: choose a "
            "smaller number"
        )
    order = np.random.default_rng(np.random.SeedSequence([seed, _CHOICE, index])).permutation(len(usable))
    return np.sort(usable[order[: config.train]])
