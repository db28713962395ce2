"""Structures for the first labels if there is no model yet: random displacements and rotations about bonds."""

from collections.abc import Iterator

import networkx
import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from piwsl.data.frames import Frame
from piwsl.structures.bonds import bonded_pairs
from piwsl.typing import FloatArray, IntArray
from piwsl.units import BOLTZMANN

STIFFNESS = 10.0  # eV/angstrom^2; a typical second derivative of the energy along a displacement of one atom
LARGEST_STRAIN = 0.02  # standard deviation of the components of the strain of a cell
# Atoms that are not bonded may not be closer than this share of the sum of their covalent radii.
_CONTACT = 1.3
_ATTEMPTS = 50


def first_structures(structure: Atoms, count: int, temperature: float, seed: int) -> list[Frame]:
    """Return displaced copies of a structure.

    Molecules are also rotated about their rotatable bonds, and cells are strained. The displacements have the size of
    thermal motion at the temperature, or less.

    Args:
        structure: Structure near a minimum.
        count: Number of copies.
        temperature: Temperature, K.
        seed: Seed of the random numbers.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    made = []
    moves = [] if structure.pbc.any() else rotatable_bonds(structure)
    for _ in range(count):
        atoms = structure.copy()
        if structure.pbc.any():
            strain = LARGEST_STRAIN * random.standard_normal((3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions = _rotated(atoms, moves, random)
        width = np.sqrt(BOLTZMANN * temperature / STIFFNESS) * random.uniform(0.3, 1.0)
        atoms.positions += width * random.standard_normal(atoms.positions.shape)
        made.append(Frame.from_atoms(atoms))
    return made


def rotatable_bonds(structure: Atoms) -> list[tuple[int, int, IntArray]]:
    """Return the bonds of a molecule about which a part of it can rotate.

    Returns:
        Both atoms of each bond that is in no ring, and the atoms that rotate with the second. Both parts have at least
        two atoms.
    """
    if len(structure) < 4:
        return []
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(structure)))
    graph.add_edges_from(bonded_pairs(structure).tolist())
    found = []
    for first, second in networkx.bridges(graph):
        parted = graph.copy()
        parted.remove_edge(first, second)
        moving = networkx.node_connected_component(parted, second)
        others = networkx.node_connected_component(parted, first)
        if len(moving) > len(others):
            first, second, moving, others = second, first, others, moving
        if len(moving) > 1 and len(others) > 1:
            found.append((first, second, np.array(sorted(moving))))
    return found


def _rotated(atoms: Atoms, moves: list[tuple[int, int, IntArray]], random: np.random.Generator) -> FloatArray:
    """Return positions after random rotations about bonds that bring no atoms too close."""
    positions: FloatArray = atoms.positions.copy()
    for first, second, moving in moves:
        for angle in _angles(random):
            turned = positions.copy()
            turned[moving] = _turned(positions[moving], positions[first], positions[second], angle)
            if not _too_close(atoms, turned, moving):
                positions = turned
                break
    return positions


def _angles(random: np.random.Generator) -> Iterator[float]:
    """Yield random angles, radians; later angles are smaller."""
    for attempt in range(_ATTEMPTS):
        yield float(random.normal()) * 0.6 * 0.9**attempt


def _turned(points: FloatArray, first: FloatArray, second: FloatArray, angle: float) -> FloatArray:
    """Rotate points about the axis from one point to another (Rodrigues)."""
    axis = (second - first) / np.linalg.norm(second - first)
    arms = points - second
    along = np.outer(arms @ axis, axis)
    turned: FloatArray = second + along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
    return turned


def _too_close(atoms: Atoms, positions: FloatArray, moving: IntArray) -> bool:
    """Return whether a moving atom is closer to another atom than non-bonded atoms may be, and than it was before."""
    fixed = np.setdiff1d(np.arange(len(atoms)), moving)
    radii = covalent_radii[atoms.numbers]
    limits = _CONTACT * (radii[moving][:, None] + radii[fixed])
    distances = np.linalg.norm(positions[moving][:, None] - positions[fixed], axis=2)
    before = np.linalg.norm(atoms.positions[moving][:, None] - atoms.positions[fixed], axis=2)
    return bool(((distances < limits) & (distances < before - 0.05)).any())
