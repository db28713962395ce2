"""Contacts: unbonded atoms that are closer to each other than a bond length."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from piwsl.structures.pairs import PairDistances
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True)
class Contact:
    """First frame in which two unbonded atoms have collapsed onto each other.

    Attributes:
        frame: Index of the frame.
        time: Time of the frame, fs.
        atoms: Indices of the two atoms.
        kind: Symbols of the two atoms, such as ``H-H``.
        distance: Distance of the two atoms, angstrom.
        limit: Sum of the covalent radii, angstrom; reduced to a fraction for a metal in a cell.
        of_metal: Whether one atom is a metal in a cell. Bonded pairs with a metal count as contacts, too.
    """

    frame: int
    time: float
    atoms: tuple[int, int]
    kind: str
    distance: float
    limit: float
    of_metal: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def unbonded_pairs(species: IntArray, bonds: IntArray) -> tuple[IntArray, FloatArray]:
    """Return the unbonded pairs (p, 2), i < j, and the sums of their covalent radii (p,), angstrom.

    Args:
        species: Atomic numbers (atoms,).
        bonds: Bonded pairs (b, 2), i < j.
    """
    pairs = np.stack(np.triu_indices(len(species), k=1), axis=1)
    bonded = {(int(i), int(j)) for i, j in bonds}
    free = pairs[[(int(i), int(j)) not in bonded for i, j in pairs]].reshape(-1, 2)
    return free, covalent_radii[species[free]].sum(axis=1)


class ContactWatch:
    """Find the first frame with an unbonded pair that is closer than the sum of its covalent radii.

    All bonds may be intact in such a frame, because potentials trained on few labels have spurious minima at distances
    that are absent from the training data.

    Args:
        species: Atomic numbers (atoms,).
        bonds: Bonded pairs (b, 2).
    """

    def __init__(self, species: IntArray, bonds: IntArray) -> None:
        self._species = species
        self._pairs, self._limits = unbonded_pairs(species, bonds)
        first, second = self._pairs.T
        # Rows of all pairs i < j, sorted by the first atom, then by the second.
        self._rows = first * len(species) - first * (first + 1) // 2 + second - first - 1
        self._distances = PairDistances(len(species))

    def find(self, positions: FloatArray, first: int, times: FloatArray) -> Contact | None:
        """Return the first contact in a piece of a trajectory, or None.

        Args:
            positions: Positions (f, atoms, 3) of the frames in the piece, angstrom.
            first: Index of the first frame of the piece.
            times: Times (frames,) of all frames, fs.
        """
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
