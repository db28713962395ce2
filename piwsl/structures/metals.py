"""Metals and non-metals: what holds them together in a cell, and how close they may come.

Bonds between non-metals have a length. The distances of metals to their neighbors in oxides and alloys do not: they
change by half an angstrom where atoms hop or coordination shells distort, and are often below the sum of the covalent
radii. In cells, rules about bonds look at the first only, and rules about contacts give the others more room.
"""

import numpy as np

from piwsl.typing import BoolArray, FloatArray, IntArray

NON_METALS = (1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 52, 53, 54, 85, 86)
METAL_CONTACT = 0.6  # of the sum of covalent radii; Ti and O, Li and Ti at 400 K stay above 0.68 of it


def is_metal(species: IntArray) -> BoolArray:
    """Of atomic numbers (...): whether they are metals (...)."""
    return np.asarray(~np.isin(species, NON_METALS))


def are_covalent(species: IntArray, pairs: IntArray) -> BoolArray:
    """Of pairs (p, 2) of atoms: whether both are non-metals (p,)."""
    return np.asarray(~is_metal(species)[pairs].any(axis=1))


def are_chemical(species: IntArray, pairs: IntArray) -> BoolArray:
    """Of pairs (p, 2) of close atoms: whether a chemist would call them bonded (p,).

    Metals are so among themselves; where there are non-metals, two metals are neighbors of these, not of each other.
    """
    metals = is_metal(species)
    return np.asarray(~metals[pairs].all(axis=1) | metals.all())


def contact_scale(metal: BoolArray) -> FloatArray:
    """Share of the covalent radii that pairs in a cell may be apart, by whether one of them is a metal (p,)."""
    return np.where(metal, METAL_CONTACT, 1.0)
