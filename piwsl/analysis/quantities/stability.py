"""Stability of a run: intact bonds, and no collapse of unbonded atoms.

The other quantities are measured on the stable frames only.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from piwsl.analysis.quantity import Survey, frames_of
from piwsl.analysis.statistics.results import Measurement, plain
from piwsl.structures.bonds import Bonds, bond_lengths
from piwsl.structures.contacts import Contact, ContactWatch
from piwsl.structures.metals import are_covalent, contact_scale, is_metal
from piwsl.structures.neighbors import PairSearch
from piwsl.trajectories.frame_source import FrameSource
from piwsl.typing import FloatArray, IntArray

LARGEST_DEVIATION = 0.5  # angstrom; largest deviation of a bond from its mean length in the reference


@dataclass(frozen=True)
class BrokenBond:
    """First frame with a broken bond.

    Attributes:
        frame: Index of the frame.
        time: Time of the frame, fs.
        atoms: Indices of the two atoms of the bond. For a reference without bonds, both are the atom whose position is
            not finite.
        kind: Type of the bond, such as ``C-H``.
        length, reference_length: Lengths of the bond, angstrom; the length is NaN if a position is not finite.
    """

    frame: int
    time: float
    atoms: tuple[int, int]
    kind: str
    length: float
    reference_length: float


@dataclass(frozen=True)
class Stability:
    """Stable time of one run.

    Attributes:
        time: Time until the first frame with a broken bond, or until the end, fs. A single run gives no error bar.
        frames: Number of frames before the first frame with a broken bond.
        all_frames: Total number of frames in the run.
        resolution: Interval between frames, fs.
        broken: First broken bond; None if no bond broke, so that the stable time is a lower bound.
        contact: First collapse of unbonded atoms in a frame with intact bonds, or None.
    """

    time: Measurement
    frames: int
    all_frames: int
    resolution: float
    broken: BrokenBond | None
    contact: Contact | None = None

    @property
    def stable_frames(self) -> int:
        """Number of frames before the first frame with a broken bond or a collapse."""
        return self.frames if self.contact is None else self.contact.frame

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, except the contact."""
        broken = None if self.broken is None else asdict(self.broken)
        if broken is not None:
            broken |= {key: plain(broken[key]) for key in ("length", "reference_length")}
        return {
            "time": self.time.as_dict(),
            "lower_bound": self.broken is None,
            "resolution_fs": self.resolution,
            "stable_frames": self.frames,
            "frames": self.all_frames,
            "largest_deviation_angstrom": LARGEST_DEVIATION,
            "broken": broken,
        }


class StabilityWatch:
    """Find the first frame in which a bond deviates by more than 0.5 angstrom from its mean length in the reference.

    The criterion is from Fu et al., TMLR 2023 (arXiv 2210.07237). A frame with a position that is not finite also
    counts as broken.

    Args:
        bonds: Bonds with their mean lengths in the reference.
        times: Times (frames,) since the start of the run, fs.
    """

    def __init__(self, bonds: Bonds, times: FloatArray) -> None:
        self._bonds, self._times = bonds, times

    def find(self, positions: FloatArray, first: int) -> BrokenBond | None:
        """Return the first broken bond in a piece with positions (f, atoms, 3), angstrom, or None."""
        return self.find_lengths(bond_lengths(positions, self._bonds.pairs), positions, first)

    def find_lengths(self, lengths: FloatArray, positions: FloatArray, first: int) -> BrokenBond | None:
        """Return the first broken bond in a piece with given bond lengths (f, bonds), angstrom, or None."""
        bonds = self._bonds
        # Written as "not within" instead of "beyond", because comparisons with NaN are false.
        outside = ~(np.abs(lengths - bonds.lengths) <= LARGEST_DEVIATION)
        broken = np.flatnonzero(outside.any(axis=1) | ~np.isfinite(positions).all(axis=(1, 2)))
        if not len(broken):
            return None
        frame = int(broken[0])
        if not len(bonds):  # without bonds, the cause is a position that is not finite
            atom = int(np.argmin(np.isfinite(positions[frame]).all(axis=1)))
            return BrokenBond(first + frame, float(self._times[first + frame]), (atom, atom), "", np.nan, np.nan)
        deviation = np.abs(lengths[frame] - bonds.lengths)
        bond = int(np.argmax(np.where(np.isnan(deviation), np.inf, deviation)))
        return BrokenBond(
            first + frame,
            float(self._times[first + frame]),
            (int(bonds.pairs[bond, 0]), int(bonds.pairs[bond, 1])),
            bonds.types[bond],
            float(lengths[frame, bond]),
            float(bonds.lengths[bond]),
        )

    def stability(self, broken: BrokenBond | None, contact: Contact | None = None) -> Stability:
        """Return the stability of the whole run."""
        times = self._times
        resolution = float(times[1] - times[0]) if len(times) > 1 else float(times[0])
        end = float(times[-1]) if broken is None else broken.time
        frames = len(times) if broken is None else broken.frame
        return Stability(Measurement(end, None, "fs", 1), frames, len(times), resolution, broken, contact)


class CellContacts:
    """Find the first frame with an unbonded pair that is too close for its covalent radii, in any periodic image.

    Args:
        species: Atomic numbers (atoms,).
        bonds: Bonds between non-metals.
    """

    def __init__(self, species: IntArray, bonds: Bonds) -> None:
        self._species = species
        self._bonded = {(int(i), int(j)) for i, j in bonds.pairs} | {(int(j), int(i)) for i, j in bonds.pairs}
        self._metals = is_metal(species)
        self._search = PairSearch(2 * float(covalent_radii[species].max()))

    def find(self, positions: FloatArray, cells: FloatArray, first: int, times: FloatArray) -> Contact | None:
        """Return the first contact in a piece with positions (f, atoms, 3), angstrom, or None."""
        for frame, (places, cell) in enumerate(zip(positions, cells, strict=True), start=first):
            near = self._search(places, cell, (True, True, True))
            i, j, distances = near.first, near.second, near.distances
            limits = covalent_radii[self._species[i]] + covalent_radii[self._species[j]]
            metal = self._metals[i] | self._metals[j]
            limits = limits * contact_scale(metal)
            for pair in np.flatnonzero((distances < limits) & (i != j)):
                atoms = int(i[pair]), int(j[pair])
                if atoms not in self._bonded:
                    kind = "-".join(sorted(chemical_symbols[int(self._species[atom])] for atom in atoms))
                    apart, limit = float(distances[pair]), float(limits[pair])
                    return Contact(frame, float(times[frame]), atoms, kind, apart, limit, bool(metal[pair]))
        return None


def find_stability(source: FrameSource, times: FloatArray, bonds: Bonds, surveys: Iterable[Survey] = ()) -> Stability:
    """Find the stable part of a run, in one pass that ends at the first frame with a broken bond.

    In a periodic cell, only bonds between non-metals are tested.

    Args:
        source: Frames of the run; unwrapped in a periodic cell.
        times: Times (frames,) since the start of the run, fs.
        bonds: Bonds of the reference, with periodic images for the run.
        surveys: Surveys that receive the stable frames.
    """
    species = source.species
    if bonds.images is not None:
        bonds = bonds.select(are_covalent(species, bonds.pairs))
    watch = StabilityWatch(bonds, times)
    in_vacuum = ContactWatch(species, bonds.pairs) if bonds.images is None else None
    in_cell = None if bonds.images is None else CellContacts(species, bonds)
    broken: BrokenBond | None = None
    contact: Contact | None = None
    for frames in frames_of(source, bonds):
        # Bonds that break after a collapse still count, because the bond criterion is reported separately.
        broken = watch.find_lengths(frames.bond_lengths, frames.positions, frames.first)
        if contact is None:
            holding = frames if broken is None else frames.before(broken.frame)
            if in_vacuum is not None:
                contact = in_vacuum.find(holding.positions, frames.first, times)
            elif in_cell is not None and holding.cells is not None:
                contact = in_cell.find(holding.positions, holding.cells, frames.first, times)
            stable = holding if contact is None else holding.before(contact.frame)
            for survey in surveys:
                survey.add(stable.positions, frames.first)
        if broken is not None:
            break
    return watch.stability(broken, contact)


def stable_time(positions: FloatArray, times: FloatArray, bonds: Bonds) -> Stability:
    """Return the stability of frames in memory (frames, atoms, 3), angstrom, by the criterion of `StabilityWatch`."""
    watch = StabilityWatch(bonds, times)
    return watch.stability(watch.find(positions, 0))
