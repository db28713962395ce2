"""Type aliases for arrays and tensors, with shapes and units.

N is the number of atoms, E of edges, S of structures and F of channels. Positions and edge vectors are in angstrom,
energies in eV, forces in eV/angstrom. A directed edge (i, j) connects atom i with its neighbor j; its vector is r_j -
r_i.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

MAX_ATOMIC_NUMBER = 118

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

Species: TypeAlias = Tensor  # (N,) atomic numbers, int64, 1 to MAX_ATOMIC_NUMBER
Positions: TypeAlias = Tensor  # (N, 3) angstrom
Forces: TypeAlias = Tensor  # (N, 3) eV/angstrom
Edges: TypeAlias = Tensor  # (2, E) int64: row 0 the center i, row 1 the neighbor j
EdgeVectors: TypeAlias = Tensor  # (E, 3) r_j - r_i, angstrom
StructureIndex: TypeAlias = Tensor  # (N,) int64: the structure an atom belongs to
Energies: TypeAlias = Tensor  # (S,) eV
