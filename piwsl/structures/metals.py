"""Classification of metals and non-metals in cells.

Bonds between non-metals have well-defined lengths. In oxides and alloys, distances between metals and their neighbors
vary by half an angstrom when atoms hop or coordination shells distort, and are often below the sum of the covalent
radii. In cells, bond criteria therefore consider only non-metals, and contact criteria allow shorter distances for
metals.
"""

import numpy as np

from piwsl.typing import BoolArray, FloatArray, IntArray

NON_METALS = (1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 52, 53, 54, 85, 86)
METAL_CONTACT = 0.6  # fraction of the sum of covalent radii; Ti-O and Li-Ti at 400 K stay above 0.68


def is_metal(species: IntArray) -> BoolArray:
    """Return the mask of metals for atomic numbers of any shape."""
    return np.asarray(~np.isin(species, NON_METALS))


def are_covalent(species: IntArray, pairs: IntArray) -> BoolArray:
    """Return the mask (p,) of the pairs (p, 2) that consist of two non-metals."""
    return np.asarray(~is_metal(species)[pairs].any(axis=1))


def are_chemical(species: IntArray, pairs: IntArray) -> BoolArray:
    """Return the mask (p,) of the close pairs (p, 2) that count as chemically bonded.

    Two metals count as bonded only in a structure without non-metals.
    """
    metals = is_metal(species)
    return np.asarray(~metals[pairs].all(axis=1) | metals.all())


def contact_scale(metal: BoolArray) -> FloatArray:
    """Return the smallest allowed distances (p,) in a cell as fractions of the sums of covalent radii.

    Args:
        metal: Mask (p,) of the pairs in which at least one atom is a metal.
    """
    return np.where(metal, METAL_CONTACT, 1.0)
