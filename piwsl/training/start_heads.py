"""Heads of further levels of theory at the start of training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from piwsl.errors import ConfigError, ElementError
from piwsl.export.trained_file import TrainedModel
from piwsl.models import Potential
from piwsl.models.build import build_prior, check_network_elements
from piwsl.models.levels import LevelsPotential, with_levels
from piwsl.training.config import TrainingConfig
from piwsl.training.frames import FurtherLevel, TrainingFrames
from piwsl.training.initial_energies import LEAST_SQUARES, energy_words, fitted, refit


@dataclass(frozen=True)
class HeadStart:
    """Start of the head of a further level.

    Attributes:
        name: Name of the level.
        origin: Name of the head in the start file that is copied; None for a copy of the main head.
        lines: Remarks for the log.
        energy_sources: Source of the reference energy of each element, by chemical symbol.
    """

    name: str
    origin: str | None
    lines: tuple[str, ...]
    energy_sources: Mapping[str, str]


def of_level(file: TrainedModel, name: str) -> TrainedModel:
    """Return a start model with the head of a level if it has one, otherwise with its main head."""
    return file.at_level(name) if name in file.levels else file


def by_symbol(values: Mapping[int, str]) -> dict[str, str]:
    """Return values by chemical symbol from values by atomic number."""
    return {chemical_symbols[number]: value for number, value in sorted(values.items())}


def with_heads(
    potential: Potential, config: TrainingConfig, frames: TrainingFrames, file: TrainedModel | None
) -> tuple[LevelsPotential, tuple[HeadStart, ...]]:
    """Add a head for each further level to the potential of the main level.

    A head is a copy of the head of this level in the start file, or else of the head of the main level.

    Args:
        potential: Potential of the main level with its initial weights.
        config: Training configuration.
        frames: Frames of the run.
        file: Start model; None for random weights.

    Raises:
        ConfigError: The network does not state its head, or the labels do not determine the energy of an element.
        ElementError: The start model or the network does not know an element, and its energy is to be kept.
    """
    starts = [_energies(potential, config, level, file) for level in frames.levels]
    numbers = sorted({*potential.elements, *(number for energies, _ in starts for number in energies)})
    check_network_elements(config.model, numbers)
    several = with_levels(
        potential, [([*energies], [*energies.values()]) for energies, _ in starts], build_prior(config.model, numbers)
    )
    heads = []
    for index, (level, (_, sources)) in enumerate(zip(frames.levels, starts, strict=True), start=1):
        table, elements = several.energies_of_elements(index), several.elements_of(index)
        own = file is not None and level.name in file.levels
        if file is not None and own:
            several.head(index).load(file.at_level(level.name).tensors)
        copied = f"head {level.name} of the file" if own else "a copy of the main head"
        lines = [f"level {level.name}: {copied}"]
        if file is not None and config.start.reference_energies == "refit" and not _given(config, level):
            lines.append(f"level {level.name}: {refit(several, table, elements, level.frames, config)}")
        else:
            lines.append(f"level {level.name}: {energy_words(table, by_symbol(sources))}")
        heads.append(HeadStart(level.name, level.name if own else None, tuple(lines), by_symbol(sources)))
    return several, tuple(heads)


def _energies(
    potential: Potential, config: TrainingConfig, level: FurtherLevel, file: TrainedModel | None
) -> tuple[dict[int, float], dict[int, str]]:
    """Return the reference energies (eV) of a level before a refit, and their sources."""
    elements = level.frames.elements
    known = {} if file is None else of_level(file, level.name).reference_energies
    if file is not None and config.start.reference_energies == "keep":
        if _given(config, level):
            raise ConfigError(
                f"start.reference_energies: keep contradicts reference_energies of level {level.name}: remove one of "
                "them"
            )
        new = [number for number in elements if number not in known]
        if new:
            raise ElementError(
                f"data.levels: {level.name} contains {_symbols(new)}, but {config.start.init_from} contains no "
                "reference energy for it: set start.reference_energies: refit"
            )
        return dict(known), dict.fromkeys(known, "kept from the start file")
    if file is not None and _given(config, level):
        known = level.atom_energies
    main = {number: float(potential.reference_energies[number]) for number in potential.elements}
    with_energies = level.labels.energies > 0
    determined = {*level.atom_energies, *known, *(_with_energy(level) if with_energies else main)}
    missing = [number for number in elements if number not in determined]
    if missing:
        raise ConfigError(
            f"data.levels: {level.name}: {_symbols(missing)} occurs in no frame with an energy, so that its reference "
            "energy is undetermined: remove these frames, or give the reference_energies of this level"
        )
    if file is not None:
        source = "configuration" if _given(config, level) else "refitted from the start file"
        return {number: known.get(number, 0.0) for number in elements}, dict.fromkeys(elements, source)
    if with_energies:
        prior = build_prior(config.model, elements)
        sources = {number: level.energy_sources.get(number, LEAST_SQUARES) for number in elements}
        return fitted(level.frames, elements, level.atom_energies, prior), sources
    sources = {number: level.energy_sources.get(number, "those of the main level") for number in elements}
    return {number: level.atom_energies.get(number, main.get(number, 0.0)) for number in elements}, sources


def _given(config: TrainingConfig, level: FurtherLevel) -> bool:
    """Return whether the configuration gives the reference energies of a level."""
    return (config.data.levels or {})[level.name].reference_energies is not None


def _with_energy(level: FurtherLevel) -> list[int]:
    """Return the atomic numbers of the elements in frames with an energy."""
    census = level.frames.census
    rows = np.unique(census.composition[census.has_energy])
    return [int(number) for number in census.numbers[census.compositions[rows].any(0)]]


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)
