"""Atoms in a periodic cell: following them across its faces, and bonds that reach into its images."""

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

from piwsl.structures.bonds import CUTOFF_SCALE, Bonds
from piwsl.structures.metals import are_chemical
from piwsl.structures.neighbors import neighbor_pairs
from piwsl.structures.pairs import pair_kind
from piwsl.typing import FloatArray, IntArray

CANDIDATES = 1.5  # bonds are looked for among pairs up to this many times their longest length in the first frame


class Unwrapper:
    """Undoes the jumps of atoms from one face of the cell to the other, frame after frame.

    An atom is taken to have moved by less than half the cell between two frames. Frames that were written without
    jumps stay as they are.
    """

    def __init__(self) -> None:
        self._last: FloatArray | None = None  # fractional positions as they were read
        self._shifts: FloatArray | None = None  # whole cells added to the atoms of the last frame

    def __call__(self, positions: FloatArray, cells: FloatArray) -> FloatArray:
        """Positions (f, atoms, 3) of consecutive frames in cells (f, 3, 3), angstrom, float64."""
        exact = np.asarray(positions, dtype=np.float64)
        if not len(exact):
            return exact
        fractions = exact @ np.linalg.inv(cells)
        before = fractions[:1] if self._last is None else self._last
        jumps = -np.round(np.diff(np.concatenate([before, fractions]), axis=0))
        shifts = np.cumsum(jumps, axis=0) + (0.0 if self._shifts is None else self._shifts)
        self._last, self._shifts = fractions[-1:], shifts[-1:]
        return np.asarray(exact + shifts @ cells)


def image_vectors(positions: FloatArray, cells: FloatArray, bonds: Bonds) -> FloatArray:
    """From the first atom of each bond to the image of the second in unwrapped frames: (frames, bonds, 3), angstrom."""
    first, second = bonds.pairs.T
    images = np.zeros((len(bonds), 3)) if bonds.images is None else bonds.images
    return np.asarray(positions[:, second] - positions[:, first] + images @ cells)


class ImageBonds:
    """Finds the bonds of a reference in cells from mean distances over its unwrapped frames.

    Args:
        species: (atoms,) atomic numbers.
        positions, cell: of the first frame, angstrom; it decides which images are looked at.
    """

    def __init__(self, species: IntArray, positions: FloatArray, cell: FloatArray) -> None:
        radii = np.array(natural_cutoffs(Atoms(numbers=species), mult=CUTOFF_SCALE))
        found = neighbor_pairs(positions, cell, (True, True, True), CANDIDATES * 2 * float(radii.max()))
        limits = radii[found.first] + radii[found.second]
        near = found.distances < CANDIDATES * limits
        pairs = np.stack([found.first, found.second], axis=1)[near]
        types = tuple(pair_kind(int(species[i]), int(species[j])) for i, j in pairs)
        self._species, self._limits = species, limits[near]
        self._candidates = Bonds(pairs, np.zeros(len(pairs)), types, found.images[near])
        self._total = np.zeros(len(pairs))
        self._frames = 0

    def add(self, positions: FloatArray, cells: FloatArray) -> None:
        """Unwrapped positions (f, atoms, 3) in cells (f, 3, 3), angstrom."""
        vectors = image_vectors(positions, cells, self._candidates)
        self._total += np.linalg.norm(vectors, axis=-1).sum(axis=0)
        self._frames += len(positions)

    def bonds(self) -> Bonds:
        """Pairs with a mean distance within 1.2 times the sum of ASE's natural cutoffs; no two metals in a compound."""
        means = self._total / max(self._frames, 1)
        pairs = self._candidates.pairs
        bonded = (means < self._limits) & are_chemical(self._species, pairs)
        return replace(self._candidates, lengths=means).chosen(bonded)


def images_of(bonds: Bonds, positions: FloatArray, cell: FloatArray) -> Bonds:
    """The same bonds with the images that they have in another trajectory, by its first frame.

    The unwrapped atoms of two trajectories may differ by whole cells. Two atoms that have k bonds with each other in
    the reference, in k images, have them here with the k nearest images.

    Args:
        bonds: of a reference in cells.
        positions, cell: (atoms, 3) and (3, 3) of the first frame of the other, angstrom.
    """
    images = np.zeros((len(bonds), 3), dtype=np.int64)
    shared: dict[tuple[int, int], list[int]] = {}
    for index, (i, j) in enumerate(bonds.pairs):
        shared.setdefault((int(i), int(j)), []).append(index)
    around = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for (i, j), places in shared.items():
        vector = positions[j] - positions[i]
        tried = around - np.round(vector @ np.linalg.inv(cell))
        distances = np.linalg.norm(vector + tried @ cell, axis=-1)
        order = np.argsort(distances, kind="stable")
        if i == j:  # an image and its opposite are one bond
            order = np.array([one for one in order if tuple(tried[one]) > (0, 0, 0)])
        chosen = tried[order[: len(places)]]
        # The longest of the reference stays the longest.
        for place, image in zip(sorted(places, key=lambda one: float(bonds.lengths[one])), chosen, strict=True):
            images[place] = image
    return Bonds(bonds.pairs, bonds.lengths, bonds.types, images)
