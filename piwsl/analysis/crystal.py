"""What is known of the structure of one trajectory of a periodic cell: as `structure` knows of a molecule."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from piwsl.analysis.molecule import StableFrames
from piwsl.analysis.quantities.angles import AngleCounter, angles_between
from piwsl.analysis.quantities.bond_lengths import BondCounter, BondStatistics
from piwsl.analysis.quantities.diffusion import DisplacementRecorder, Displacements
from piwsl.analysis.quantities.radial import RadialCounter, RadialHistogram
from piwsl.analysis.quantities.spectrum import VibrationCounter, Vibrations, frame_interval
from piwsl.analysis.quantities.stability import BrokenBond, StabilityWatch
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.distributions import Histogram
from piwsl.analysis.statistics.uncertainty import BlockSums, MicroBlocks
from piwsl.structures.bonds import Bonds
from piwsl.structures.contacts import Contact
from piwsl.structures.metals import are_chemical, are_covalent, contact_scale, is_metal
from piwsl.structures.neighbors import PairSearch
from piwsl.structures.periodic import image_vectors
from piwsl.trajectories.source import FrameSource, first_frame
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class CrystalStatistics:
    """Histograms and moments over the frames of a trajectory in cells, block by block.

    Attributes:
        frames: number of frames they are of.
        radial: g(r) of each two elements.
        bonds: bond lengths by type.
        angles: by type such as ``O-Ti-O``.
        volume: number of frames and sum of the volumes per atom, angstrom^3.
        displacements: by element; empty where frames have no equal intervals, or there are too few.
        vibrations: None where frames have no equal intervals, too long ones, or end before one segment.
    """

    frames: int
    radial: dict[str, RadialHistogram]
    bonds: dict[str, BondStatistics]
    angles: dict[str, Histogram]
    volume: BlockSums
    displacements: dict[str, Displacements]
    vibrations: Vibrations | None


def find_stable_crystal(source: FrameSource, times: FloatArray, bonds: Bonds) -> StableFrames:
    """First pass over an unwrapped run; it ends at the first broken frame.

    Args:
        source: unwrapped frames of the run.
        times: (frames,) fs since its start.
        bonds: of the reference, with the images of the run; those between non-metals must hold.
    """
    bonds = bonds.chosen(are_covalent(source.species, bonds.pairs))
    watch, contacts = StabilityWatch(bonds, times), CellContacts(source.species, bonds)
    broken: BrokenBond | None = None
    contact: Contact | None = None
    for first, positions, cells in in_cells(source):
        lengths = np.linalg.norm(image_vectors(positions, cells, bonds), axis=-1)
        broken = watch.find_lengths(lengths, positions, first)
        end = len(positions) if broken is None else broken.frame - first
        contact = contact or contacts.find(positions[:end], cells[:end], first, times)
        if broken:
            break
    return StableFrames(watch.stability(broken), contact)


class CellContacts:
    """Looks for the first frame with an unbonded pair too close for its covalent radii, in any image.

    Args:
        species: (atoms,) atomic numbers.
        bonds: between non-metals.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        self._species = species
        self._bonded = {(int(i), int(j)) for i, j in bonds.pairs} | {(int(j), int(i)) for i, j in bonds.pairs}
        self._metals = is_metal(species)
        self._search = PairSearch(2 * float(covalent_radii[species].max()))

    def find(self, positions: FloatArray, cells: FloatArray, first: int, times: FloatArray) -> Contact | None:
        """The contact in a piece (f, atoms, 3), angstrom, that begins with frame ``first``; times (frames,) of all."""
        for frame, (places, cell) in enumerate(zip(positions, cells, strict=True), start=first):
            near = self._search(places, cell, (True, True, True))
            i, j, distances = near.first, near.second, near.distances
            limits = covalent_radii[self._species[i]] + covalent_radii[self._species[j]]
            metal = self._metals[i] | self._metals[j]
            limits = limits * contact_scale(metal)
            for pair in np.flatnonzero((distances < limits) & (i != j)):
                atoms = int(i[pair]), int(j[pair])
                if atoms not in self._bonded:
                    kind = "-".join(sorted(chemical_symbols[int(self._species[one])] for one in atoms))
                    apart, limit = float(distances[pair]), float(limits[pair])
                    return Contact(frame, float(times[frame]), atoms, kind, apart, limit, bool(metal[pair]))
        return None


def crystal_structure_of(source: FrameSource, bonds: Bonds, frames: int) -> CrystalStatistics:
    """Second pass, over the first ``frames`` unwrapped frames.

    Args:
        source: unwrapped frames of a run or of a reference.
        bonds: of the reference, with the images of this source.
        frames: one at least.
    """
    species = source.species
    cell = first_frame(source)[1]
    assert cell is not None  # as `unwrapped` sees to
    radial, lengths, blocks = RadialCounter(species, frames, cell), BondCounter(bonds, frames), MicroBlocks(frames)
    arms = Arms(species, bonds)
    angles = {kind: AngleCounter(blocks) for kind in arms.pairs}
    volumes, memory = np.zeros((len(blocks), 2)), SeriesMeans(frames, 1)
    interval = frame_interval(source.times)
    displacements = None if interval is None else DisplacementRecorder(species, frames, interval)
    vibrations = VibrationCounter(source, frames)
    for first, positions, cells in in_cells(source, frames):
        radial.add(positions, cells, first)
        vectors = image_vectors(positions, cells, bonds)
        lengths.add(np.linalg.norm(vectors, axis=-1), first)
        for kind, counter in angles.items():
            counter.add(arms.angles(vectors, kind), first)
        volume = np.abs(np.linalg.det(cells)) / len(species)
        memory.add(volume[:, None], first)
        blocks.add(volumes, np.stack([np.ones_like(volume), volume], axis=1), first)
        if displacements is not None:
            displacements.add(positions, first)
        vibrations.add(positions, first)
    return CrystalStatistics(
        frames,
        radial.histograms(),
        lengths.statistics(),
        {kind: counter.histogram() for kind, counter in angles.items()},
        blocks.merged(volumes, memory.inefficiency()),
        {} if displacements is None else displacements.displacements(),
        vibrations.vibrations(),
    )


def in_cells(source: FrameSource, stop: int | None = None) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Pieces of a source that has a cell in every frame."""
    for first, positions, cells in source.pieces_with_cells(stop):
        assert cells is not None  # as `unwrapped` sees to
        yield first, positions, cells


class Arms:
    """Angles between the bonds of each atom, by type.

    Args:
        species: (atoms,) atomic numbers.
        bonds: with images; of metals only among themselves.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        chemical = are_chemical(species, bonds.pairs)
        ends: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # of each atom: bond, direction, other atom
        for bond, (i, j) in enumerate(bonds.pairs):
            if chemical[bond]:
                ends[int(i)].append((bond, 1, int(j)))
                ends[int(j)].append((bond, -1, int(i)))
        found: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        symbols = [chemical_symbols[int(number)] for number in species]
        for middle, arms in ends.items():
            for place, (bond, sign, first) in enumerate(arms):
                for other, other_sign, last in arms[place + 1 :]:
                    low, high = sorted((symbols[first], symbols[last]))
                    found[f"{low}-{symbols[middle]}-{high}"].append((bond, sign, other, other_sign))
        self.pairs = {kind: np.array(rows, dtype=np.int64) for kind, rows in sorted(found.items())}

    def angles(self, vectors: FloatArray, kind: str) -> FloatArray:
        """Angles (f, k) in degrees of a type, from the vectors of the bonds (f, bonds, 3)."""
        bond, sign, other, other_sign = self.pairs[kind].T
        return angles_between(sign[:, None] * vectors[:, bond], other_sign[:, None] * vectors[:, other])
