"""Collapse: atoms that are not bonded and yet closer than a bond would be."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from piwsl.structures.pairs import PairDistances
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True)
class Contact:
    """The first frame in which two atoms have collapsed onto each other.

    Attributes:
        frame: index of the frame.
        time: of the frame, fs.
        atoms: the pair.
        kind: such as ``H-H``.
        distance: angstrom.
        limit: sum of their covalent radii, angstrom; with a metal in a cell, a share of it.
        of_metal: whether one is a metal in a cell, where bonded pairs count, too.
    """

    frame: int
    time: float
    atoms: tuple[int, int]
    kind: str
    distance: float
    limit: float
    of_metal: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def unbonded_pairs(species: IntArray, bonds: IntArray) -> tuple[IntArray, FloatArray]:
    """Pairs (p, 2) of atoms that are not bonded, i < j, and the sum of their covalent radii (p,), angstrom.

    Args:
        species: atomic numbers (atoms,).
        bonds: (b, 2) bonded pairs, i < j.
    """
    pairs = np.stack(np.triu_indices(len(species), k=1), axis=1)
    bonded = {(int(i), int(j)) for i, j in bonds}
    free = pairs[[(int(i), int(j)) not in bonded for i, j in pairs]].reshape(-1, 2)
    return free, covalent_radii[species[free]].sum(axis=1)


class ContactWatch:
    """Looks for the first frame with an unbonded pair closer than the sum of its covalent radii.

    Bonds can all be intact in such a frame: potentials trained on few labels have holes at distances they never saw.

    Args:
        species: atomic numbers (atoms,).
        bonds: (b, 2) bonded pairs.
    """

    def __init__(self, species: IntArray, bonds: IntArray) -> None:
        self._species = species
        self._pairs, self._limits = unbonded_pairs(species, bonds)
        first, second = self._pairs.T
        # Rows of all pairs i < j, in the order of their first and then of their second atom.
        self._rows = first * len(species) - first * (first + 1) // 2 + second - first - 1
        self._distances = PairDistances(len(species))

    def find(self, positions: FloatArray, first: int, times: FloatArray) -> Contact | None:
        """The contact in a piece (f, atoms, 3), angstrom, that begins with frame ``first``; times (frames,) of all."""
        if not len(self._rows):
            return None
        for begin in range(0, len(positions), self._distances.chunk):
            distances = self._distances.of(positions[begin : begin + self._distances.chunk])[self._rows]
            close = (distances < self._limits[:, None]).any(axis=0)
            if close.any():
                frame = int(np.argmax(close))
                return self._contact(distances[:, frame], first + begin + frame, times)
        return None

    def _contact(self, distances: FloatArray, frame: int, times: FloatArray) -> Contact:
        pair = int(np.argmin(distances / self._limits))
        i, j = (int(atom) for atom in self._pairs[pair])
        kind = "-".join(sorted(chemical_symbols[int(self._species[atom])] for atom in (i, j)))
        return Contact(frame, float(times[frame]), (i, j), kind, float(distances[pair]), float(self._limits[pair]))


def first_contact(positions: FloatArray, times: FloatArray, species: IntArray, bonds: IntArray) -> Contact | None:
    """The first contact in frames in memory (frames, atoms, 3), angstrom, by the rule of `ContactWatch`, or None."""
    return ContactWatch(species, bonds).find(positions, 0, times)
