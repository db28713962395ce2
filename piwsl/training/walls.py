"""Ranges of the distances in training frames, at which the walls of a potential begin."""

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import Literal

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import ConfigError, DataError
from piwsl.models.priors.walls import MOST_ATOMS, PairRange, WallRanges
from piwsl.structures.bonds import BondGraph, find_bonds
from piwsl.structures.neighbors import PairSearch
from piwsl.structures.pairs import ShortestPairs, pair_indices, pair_kind
from piwsl.training.config import TrainingConfig
from piwsl.training.frames import FEW_LABELS, TrainingFrames
from piwsl.typing import FloatArray, IntArray

# Frames whose distances are measured.
MOST_MEASURED = 5000
# A range ends at the extreme of the data, or so many standard deviations from the mean, whichever is wider.
DEVIATIONS = 5.0
# Smallest standard deviation, for a few frames that hardly differ, angstrom.
SMALLEST_DEVIATION = 0.02
# Pairs without a range of their own: thermal motion reaches slightly below the shortest distance of a finite sample.
CLOSER = 0.95


def with_measured_walls(
    config: TrainingConfig, frames: TrainingFrames, replay: FrameSet | None = None
) -> TrainingConfig:
    """Return the configuration with the ranges of its walls, measured on the training frames of all levels.

    ``auto`` becomes ``none`` or ranges. Ranges that the configuration contains, such as those of a start model, are
    widened to those of the frames.

    Args:
        config: Training configuration.
        frames: Training, validation and test frames.
        replay: Replay frames, which must be the same molecule for walls of one molecule; None without replay.

    Raises:
        ConfigError: The walls are those of one molecule, and the frames do not contain this molecule only.
    """
    walls, kind = config.model.walls, config.model.walls_kind
    if walls == "auto" and config.start.init_from is None and len(frames.train) <= FEW_LABELS:
        kind = _usual_kind(frames)
    if kind == "none":
        return config.model_copy(update={"model": config.model.model_copy(update={"walls": "none"})})
    if kind == "molecule":
        obstacle = _obstacle(chain(frames.train, frames.validation, frames.test, replay or ()))
        if obstacle is not None:
            raise ConfigError(f"model.walls: molecule is for {obstacle}: choose elements")
        measured = ranges_of_molecule(frames.train)
    else:
        measured = ranges_of_elements(frames.train, config.model.cutoff)
    if isinstance(walls, WallRanges):
        try:
            measured = walls.widened(measured)
        except ValueError:
            raise ConfigError(
                "model.walls: the ranges are those of another molecule, or of another order of its atoms: set "
                "model.walls to none, elements or molecule"
            ) from None
    return config.model_copy(update={"model": config.model.model_copy(update={"walls": measured})})


def walls_lines(config: TrainingConfig) -> list[str]:
    """Return a line of the log about measured walls, in a list."""
    walls = config.model.walls
    if not isinstance(walls, WallRanges):
        return []
    closest = ", ".join(f"{name} {distance:.2f}" for name, distance in walls.shortest.items())
    if walls.molecule is None:
        return [f"walls: pairs beyond [A] {closest}"]
    local = f"bonds ({len(walls.bonds)}) and angles ({len(walls.angles)}) within their ranges"
    return [f"walls: {local}; other pairs beyond [A] {closest or 'none'} (model.walls)"]


def ranges_of_elements(frames: FrameSet, cutoff: float) -> WallRanges:
    """Return the shortest distance of each pair of elements in some frames, within a cutoff in angstrom."""
    search, shortest = PairSearch(cutoff), ShortestPairs()
    for frame in _some(frames):
        pairs = search(frame.positions, frame.cell, frame.pbc)
        shortest.add(frame.species, pairs.first, pairs.second, pairs.distances)
    return WallRanges(shortest=_named(shortest))


def ranges_of_molecule(frames: FrameSet) -> WallRanges:
    """Return the ranges of bonds and of atoms with a common neighbor, and the shortest distances of all other pairs.

    Pairs of equivalent atoms, such as the hydrogens of a methyl group, have the range that contains all of theirs.

    Args:
        frames: Frames of one molecule, with the atoms in the same order, not periodic.
    """
    some = _some(frames)
    species, positions = some[0].species, np.stack([frame.positions for frame in some])
    bond_graph = _bond_graph(some)
    graph = bond_graph.graph
    bonds = {(min(bond), max(bond)) for bond in graph.edges}
    angles = {(min(ends), max(ends)) for middle in graph for ends in combinations(graph[middle], 2)} - bonds
    colors = bond_graph.equivalence()
    first, last = pair_indices(len(species))
    apart = np.array([pair not in bonds | angles for pair in zip(first.tolist(), last.tolist(), strict=True)], bool)
    first, last = first[apart], last[apart]
    shortest = ShortestPairs()
    for frame in positions:
        shortest.add(species, first, last, np.linalg.norm(frame[first] - frame[last], axis=-1))
    return WallRanges(
        shortest=_named(shortest),
        molecule=species.tolist(),
        bonds=_alike([_range(positions, pair) for pair in sorted(bonds)], colors),
        angles=_alike([_range(positions, pair) for pair in sorted(angles)], colors),
    )


def _usual_kind(frames: TrainingFrames) -> str:
    """Return the kind of walls of a model with random weights and few training frames."""
    if _obstacle(chain(frames.train, frames.validation, frames.test)) is not None:
        return "none"
    try:
        _bond_graph(_some(frames.train))
    except DataError:  # no bonds, as in a cluster of noble gas atoms
        return "none"
    return "molecule"


def kind_of_walls(frames: Iterable[Frame]) -> Literal["molecule", "elements"]:
    """Return the strictest kind of walls that some frames allow."""
    return "molecule" if _obstacle(frames) is None else "elements"


def _obstacle(frames: Iterable[Frame]) -> str | None:
    """Return what prevents walls of one molecule, as the end of a sentence; None if nothing does."""
    species: IntArray | None = None
    for frame in frames:
        species = frame.species if species is None else species
        if any(frame.pbc):
            return "frames that are not periodic"
        if not np.array_equal(frame.species, species):
            return "frames of one molecule, with the atoms in the same order"
    if species is not None and len(species) > MOST_ATOMS:
        return f"at most {MOST_ATOMS} atoms, got {len(species)}"
    return None


def _range(positions: FloatArray, pair: tuple[int, int]) -> PairRange:
    """Return the range of a pair of atoms from positions (frames, atoms, 3)."""
    first, last = int(pair[0]), int(pair[1])
    lengths = np.linalg.norm(positions[:, first] - positions[:, last], axis=-1)
    mean, deviation = float(lengths.mean()), max(float(lengths.std()), SMALLEST_DEVIATION)
    low = max(mean - DEVIATIONS * deviation, 0.5 * mean)
    return first, last, min(float(lengths.min()), low), max(float(lengths.max()), mean + DEVIATIONS * deviation)


def _bond_graph(frames: Sequence[Frame]) -> BondGraph:
    """Return the bond graph of a molecule from its mean distances in some frames."""
    species = frames[0].species
    return BondGraph(species, find_bonds(species, np.stack([frame.positions for frame in frames])))


def _alike(ranges: Sequence[PairRange], colors: Sequence[int]) -> list[PairRange]:
    """Return the ranges of pairs, widened to the ranges of pairs whose atoms have the same colors."""
    groups: dict[tuple[int, ...], list[PairRange]] = {}
    for entry in ranges:
        groups.setdefault(_kind(entry, colors), []).append(entry)
    widest = {kind: (min(one[2] for one in group), max(one[3] for one in group)) for kind, group in groups.items()}
    return [(entry[0], entry[1], *widest[_kind(entry, colors)]) for entry in ranges]


def _kind(entry: PairRange, colors: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted((colors[entry[0]], colors[entry[1]])))


def _named(shortest: ShortestPairs) -> dict[str, float]:
    """Return the distances at which the walls of pairs of elements begin, by name."""
    distances = {pair_kind(*pair): CLOSER * distance for pair, distance in shortest.by_numbers().items()}
    return dict(sorted(distances.items()))


def _some(frames: FrameSet) -> list[Frame]:
    """Return at most `MOST_MEASURED` evenly spaced frames."""
    return [frames[index] for index in range(0, len(frames), max(1, -(-len(frames) // MOST_MEASURED)))]
