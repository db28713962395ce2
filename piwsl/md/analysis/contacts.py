"""Collapse: atoms that are not bonded and yet closer than a bond would be."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from piwsl.typing import FloatArray, IntArray

CHUNK_FRAMES = 1000


@dataclass(frozen=True)
class Contact:
    """The first frame in which two atoms have collapsed onto each other.

    Attributes:
        frame: index of the frame.
        time: of the frame, fs.
        atoms: the pair.
        kind: such as ``H-H``.
        distance: angstrom.
        limit: sum of their covalent radii, angstrom.
    """

    frame: int
    time: float
    atoms: tuple[int, int]
    kind: str
    distance: float
    limit: float

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


def first_contact(positions: FloatArray, times: FloatArray, species: IntArray, bonds: IntArray) -> Contact | None:
    """The first frame with an unbonded pair closer than the sum of its covalent radii, or None.

    Bonds can all be intact in such a frame: potentials trained on few labels have holes at distances they never saw.

    Args:
        positions: (frames, atoms, 3) angstrom.
        times: (frames,) fs.
        species: atomic numbers (atoms,).
        bonds: (b, 2) bonded pairs.
    """
    pairs, limits = unbonded_pairs(species, bonds)
    for start in range(0, len(positions), CHUNK_FRAMES):
        chunk = positions[start : start + CHUNK_FRAMES]
        distances = np.linalg.norm(chunk[:, pairs[:, 0]] - chunk[:, pairs[:, 1]], axis=-1)
        close = (distances < limits).any(axis=1)
        if close.any():
            frame = int(np.argmax(close))
            pair = int(np.argmin(distances[frame] / limits))
            i, j = (int(atom) for atom in pairs[pair])
            kind = "-".join(sorted(chemical_symbols[int(species[atom])] for atom in (i, j)))
            time = float(times[start + frame])
            return Contact(start + frame, time, (i, j), kind, float(distances[frame, pair]), float(limits[pair]))
    return None
