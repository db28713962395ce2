"""Trajectories in periodic cells: unwrapping of positions, and bonds across periodic images."""

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

from piwsl.structures.bonds import CUTOFF_SCALE, Bonds
from piwsl.structures.metals import are_chemical
from piwsl.structures.neighbors import neighbor_pairs
from piwsl.structures.pairs import pair_kind
from piwsl.typing import FloatArray, IntArray

CANDIDATES = 1.5  # candidates are pairs within this multiple of the longest bond length in the first frame


class Unwrapper:
    """Remove the jumps of atoms between opposite faces of the cell, frame by frame.

    Atoms must move by less than half the cell between two frames. Frames without jumps are unchanged.
    """

    def __init__(self) -> None:
        self._last: FloatArray | None = None  # fractional positions before unwrapping
        self._shifts: FloatArray | None = None  # cell offsets added to the atoms of the last frame

    def __call__(self, positions: FloatArray, cells: FloatArray) -> FloatArray:
        """Return the unwrapped positions (f, atoms, 3) of the next frames in cells (f, 3, 3), angstrom, float64."""
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
    """Return vectors (frames, bonds, 3) from the first atom of each bond to the image of the second, angstrom.

    Args:
        positions: Unwrapped positions (frames, atoms, 3), angstrom.
        cells: Cells (frames, 3, 3), angstrom.
        bonds: Bonds with their images.
    """
    first, second = bonds.pairs.T
    images = np.zeros((len(bonds), 3)) if bonds.images is None else bonds.images
    return np.asarray(positions[:, second] - positions[:, first] + images @ cells)


class ImageBonds:
    """Find the bonds of a periodic reference from mean distances in its unwrapped frames.

    Args:
        species: Atomic numbers (atoms,).
        positions: Positions (atoms, 3) of the first frame, angstrom. They determine which images are considered.
        cell: Cell (3, 3) of the first frame, angstrom.
    """

    def __init__(self, species: IntArray, positions: FloatArray, cell: FloatArray) -> None:
        radii = np.array(natural_cutoffs(Atoms(numbers=species), mult=CUTOFF_SCALE))
        neighbors = neighbor_pairs(positions, cell, (True, True, True), CANDIDATES * 2 * float(radii.max()))
        limits = radii[neighbors.first] + radii[neighbors.second]
        near = neighbors.distances < CANDIDATES * limits
        pairs = np.stack([neighbors.first, neighbors.second], axis=1)[near]
        types = tuple(pair_kind(int(species[i]), int(species[j])) for i, j in pairs)
        self._species, self._limits = species, limits[near]
        self._candidates = Bonds(pairs, np.zeros(len(pairs)), types, neighbors.images[near])
        self._total = np.zeros(len(pairs))
        self._frames = 0

    def add(self, positions: FloatArray, cells: FloatArray) -> None:
        """Add frames with unwrapped positions (f, atoms, 3) in cells (f, 3, 3), angstrom."""
        vectors = image_vectors(positions, cells, self._candidates)
        self._total += np.linalg.norm(vectors, axis=-1).sum(axis=0)
        self._frames += len(positions)

    def bonds(self) -> Bonds:
        """Return the pairs with a mean distance within 1.2 times the sum of ASE's natural cutoffs.

        Pairs of metals count only in a structure without non-metals.
        """
        means = self._total / max(self._frames, 1)
        pairs = self._candidates.pairs
        bonded = (means < self._limits) & are_chemical(self._species, pairs)
        return replace(self._candidates, lengths=means).select(bonded)


def images_of(bonds: Bonds, positions: FloatArray, cell: FloatArray) -> Bonds:
    """Return the bonds of a reference with images for another trajectory.

    The unwrapped atoms of two trajectories can differ by whole cells. If two atoms have k bonds in k images in the
    reference, they are assigned to the k nearest images.

    Args:
        bonds: Bonds of a periodic reference.
        positions: Positions (atoms, 3) of the first frame of the other trajectory, angstrom.
        cell: Cell (3, 3) of that frame, angstrom.
    """
    images = np.zeros((len(bonds), 3), dtype=np.int64)
    shared: dict[tuple[int, int], list[int]] = {}
    for index, (i, j) in enumerate(bonds.pairs):
        shared.setdefault((int(i), int(j)), []).append(index)
    around = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for (i, j), places in shared.items():
        vector = positions[j] - positions[i]
        images_tried = around - np.round(vector @ np.linalg.inv(cell))
        distances = np.linalg.norm(vector + images_tried @ cell, axis=-1)
        order = np.argsort(distances, kind="stable")
        if i == j:  # an image and its opposite are the same bond
            order = np.array([index for index in order if tuple(images_tried[index]) > (0, 0, 0)])
        chosen = images_tried[order[: len(places)]]
        # The lengths keep the order of the reference.
        for place, image in zip(sorted(places, key=lambda index: float(bonds.lengths[index])), chosen, strict=True):
            images[place] = image
    return Bonds(bonds.pairs, bonds.lengths, bonds.types, images)
