"""Scans of distances and bonds outside the data, where the energy of a potential must rise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike

import networkx
import numpy as np
from ase.data import covalent_radii

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import DataError, ElementError
from piwsl.export.supported import in_trained_order
from piwsl.export.trained_file import TrainedModel
from piwsl.structures.bonds import BondGraph, Bonds, bond_lengths, find_bonds
from piwsl.structures.pairs import pair_kind, pair_numbers
from piwsl.training.predictors import TrainedPredictor, predictor_of
from piwsl.typing import FloatArray, IntArray

SHORTEST = 0.3  # end of the scans of two atoms, angstrom
STRETCH = 2.0  # end of the scans of bonds, in units of the length of the bond
STEP = 0.05  # angstrom
MOST_MEASURED = 5000  # largest number of frames whose distances are measured
TOLERANCE = 1e-3  # largest fall of the energy that counts as rounding, eV


@dataclass(frozen=True, eq=False)
class Scan:
    """Energies along a path that leaves the data.

    Attributes:
        kind: ``pair`` (two atoms alone), ``contact`` (two atoms of the structure that are not bonded; one of them moves
            towards the other), or ``bond`` (stretched, with rigid fragments).
        name: Elements such as ``C-H``, and the indices of the atoms in the structure.
        distances: Distances of the two atoms (k,), angstrom, from the limit of the data outwards.
        energies: Energies (k,), eV.
    """

    kind: str
    name: str
    distances: FloatArray
    energies: FloatArray

    @property
    def fall(self) -> float:
        """Largest fall of the energy below an earlier value along the path, eV; infinite if an energy is not finite."""
        if not np.isfinite(self.energies).all():
            return float("inf")
        return float((np.maximum.accumulate(self.energies) - self.energies).max())

    @property
    def rises(self) -> bool:
        """Whether the energy rises monotonically along the path. A constant energy does not rise."""
        return self.fall <= TOLERANCE and bool(self.energies[-1] - self.energies[0] > TOLERANCE)

    def line(self) -> str:
        """Return the result as a line of text."""
        path = f"{self.kind} {self.name} from {self.distances[0]:.2f} to {self.distances[-1]:.2f} A"
        if self.rises:
            return f"{path}: rises by {self.energies[-1] - self.energies[0]:.1f} eV"
        if not np.isfinite(self.energies).all():
            return f"{path}: the energy is not finite"
        if self.fall <= TOLERANCE:
            return f"{path}: does not rise"
        falls = np.maximum.accumulate(self.energies) - self.energies > TOLERANCE
        return f"{path}: falls by {self.fall:.3f} eV, first at {self.distances[int(np.argmax(falls))]:.2f} A"


def scan_model(
    model: str | PathLike[str] | TrainedModel,
    structures: FrameSource,
    *,
    device: str = "cpu",
    head: str | None = None,
) -> list[Scan]:
    """Compute the energy of a potential along paths that leave the data.

    Two atoms of each pair of elements approach each other from the shortest distance in the data to 0.3 A: alone
    (unless the model has walls of one molecule), and in the first structure, where they are not bonded. Each bond of
    the first structure is stretched from its longest length in the data to twice its length. The data are the
    structures and the training domain of a trained file.

    Args:
        model: Trained file, exported file for any structure, or directory of a training run or an ensemble.
        structures: Structures. Bonds and contacts are those of the first; frames with the same atoms determine the
            longest length of each bond.
        device: ``cpu`` or ``cuda``.
        head: Name of the level of theory, for a model that was trained on several levels. The default is the main
            level.

    Raises:
        DataError: The structures cannot be read, or the first of them is periodic.
        ElementError: The model was not trained on an element of the structure, or supports only one molecule.
    """
    frames = as_frames(structures)
    structure = frames[0]
    if any(structure.pbc):
        raise DataError("a scan requires a molecule without a cell as first structure: pass such a structure")
    same = [frame for frame in frames if np.array_equal(frame.species, structure.species) and not any(frame.pbc)]
    positions = np.stack([frame.positions for frame in same[:: -(-len(same) // MOST_MEASURED)]])
    predictor = predictor_of(model, device, head)
    shortest = _shortest(structure, positions)
    alone = True
    for trained in getattr(predictor, "models", ()):
        trained.check_structures(FrameSet([structure]))
        if in_trained_order(trained.config.walls, FrameSet([structure]))[1] is not None:
            raise ElementError(
                "the model has walls for one molecule (model.walls), and a scan requires its atoms in the order of the "
                "training data: reorder the atoms of the first structure"
            )
        alone = alone and trained.config.molecule is None
        for pair, distance in (trained.domain.shortest if trained.domain is not None else {}).items():
            kind = pair_kind(*pair_numbers(pair))
            shortest[kind] = min(distance, shortest.get(kind, distance))
    paths = [*_pairs(structure, shortest)] if alone else []
    if len(structure.species) > 2:
        bonds = find_bonds(structure.species, structure.positions[None])
        paths += [*_contacts(structure, bonds, positions), *_stretched(structure, bonds, positions)]
    path = FrameSet([frame for *_, moved in paths for frame in moved])
    # The bonds of these frames say nothing about the order of their atoms.
    portions = predictor.portions_as_given if isinstance(predictor, TrainedPredictor) else predictor.portions
    energies = np.concatenate([portion.energies for portion in portions(path)])
    parts = np.split(energies, np.cumsum([len(moved) for *_, moved in paths])[:-1])
    return [Scan(kind, name, distances, part) for (kind, name, distances, _), part in zip(paths, parts, strict=True)]


def summary(scans: Sequence[Scan]) -> list[str]:
    """Return the number of scans whose energy rises, and a line for each of the others."""
    falling = [scan for scan in scans if not scan.rises]
    return [
        f"scans outside the data: the energy rises in {len(scans) - len(falling)} of {len(scans)}",
        *(f"scan: {scan.line()}" for scan in falling),
    ]


_Path = tuple[str, str, FloatArray, list[Frame]]


def _pairs(structure: Frame, shortest: dict[str, float]) -> Iterator[_Path]:
    elements = sorted({int(number) for number in structure.species})
    for place, first in enumerate(elements):
        for second in elements[place:]:
            kind = pair_kind(first, second)
            start = shortest.get(kind, float(covalent_radii[first] + covalent_radii[second]))
            distances = _downwards(start)
            dimer = np.zeros((len(distances), 2, 3))
            dimer[:, 1, 2] = distances
            yield "pair", kind, distances, _frames(np.array([first, second]), dimer)


def _contacts(structure: Frame, bonds: Bonds, positions: FloatArray) -> Iterator[_Path]:
    """Move an atom of the closest pair of each two elements that is not bonded towards the other."""
    bonded = {tuple(pair) for pair in bonds.pairs.tolist()}
    pairs = np.stack(np.triu_indices(len(structure.species), 1), axis=1)
    pairs = pairs[[tuple(pair) not in bonded for pair in pairs.tolist()]]
    shortest = bond_lengths(positions, pairs).min(0)
    lengths = bond_lengths(structure.positions[None], pairs)[0]
    closest: dict[str, tuple[float, int, int]] = {}
    limits: dict[str, float] = {}
    for (first, second), length, limit in zip(pairs.tolist(), lengths, shortest, strict=True):
        kind = pair_kind(int(structure.species[first]), int(structure.species[second]))
        found = (float(length), first, second)
        closest[kind] = min(found, closest.get(kind, found))
        limits[kind] = min(float(limit), limits.get(kind, float(limit)))
    for kind, (length, first, second) in closest.items():
        distances = _downwards(min(limits[kind], length))
        axis = (structure.positions[second] - structure.positions[first]) / length
        moved = np.repeat(structure.positions[None], len(distances), axis=0)
        moved[:, second] = structure.positions[first] + distances[:, None] * axis
        yield "contact", _name(kind, first, second), distances, _frames(structure.species, moved)


def _stretched(structure: Frame, bonds: Bonds, positions: FloatArray) -> Iterator[_Path]:
    graph = BondGraph(structure.species, bonds).graph
    longest = bond_lengths(positions, bonds.pairs).max(0)
    for (first, second), kind, length, limit in zip(
        bonds.pairs.tolist(), bonds.types, bonds.lengths, longest, strict=True
    ):
        last = STRETCH * float(length)
        distances = np.linspace(min(float(limit), last), last, max(2, round((last - float(limit)) / STEP)))
        # Without the second atom, the parts of the molecule that keep no connection to the first atom move with it.
        others = [
            part for part in networkx.connected_components(graph.subgraph(set(graph) - {second})) if first not in part
        ]
        fragment = [second, *(atom for part in others for atom in part)]
        axis = (structure.positions[second] - structure.positions[first]) / length
        moved = np.repeat(structure.positions[None], len(distances), axis=0)
        moved[:, fragment] += (distances - length)[:, None, None] * axis
        yield "bond", _name(kind, first, second), distances, _frames(structure.species, moved)


def _shortest(structure: Frame, positions: FloatArray) -> dict[str, float]:
    """Return the shortest distance of each pair of elements in the structures, angstrom."""
    first, second = np.triu_indices(len(structure.species), 1)
    lengths = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1).min(0)
    found: dict[str, float] = {}
    for i, j, length in zip(structure.species[first], structure.species[second], lengths, strict=True):
        kind = pair_kind(int(i), int(j))
        found[kind] = min(float(length), found.get(kind, float(length)))
    return found


def _downwards(start: float) -> FloatArray:
    return np.linspace(start, SHORTEST, max(2, round((start - SHORTEST) / STEP)))


def _frames(species: IntArray, positions: FloatArray) -> list[Frame]:
    none = np.full(positions.shape[1:], np.nan)
    return [Frame(np.asarray(species, dtype=np.int64), moved, np.nan, none) for moved in positions]


def _name(kind: str, first: int, second: int) -> str:
    return f"{kind} (atoms {first} and {second})"
