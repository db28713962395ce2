"""Initial velocities of a run, and its kinetic degrees of freedom."""

import numpy as np
from ase import Atoms

from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN


def thermal_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> FloatArray:
    """Maxwell-Boltzmann velocities (n, 3), angstrom/fs, without overall translation and rotation.

    Their expected kinetic energy is that of `degrees_of_freedom` at the temperature; it is not rescaled, so
    repeated draws are canonical.
    """
    masses = atoms.get_masses()[:, None]
    velocities = rng.normal(size=(len(atoms), 3)) * np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses)
    return without_overall_motion(atoms, velocities)


def without_overall_motion(atoms: Atoms, velocities: FloatArray) -> FloatArray:
    """Velocities (n, 3) less overall translation and, where nothing is periodic, rotation."""
    masses = atoms.get_masses()[:, None]
    velocities = velocities - (masses * velocities).sum(0) / masses.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - (masses * atoms.positions).sum(0) / masses.sum()
        momentum = (masses * np.cross(arms, velocities)).sum(0)
        # The pseudo-inverse leaves out the axis of a linear molecule, about which nothing turns.
        velocities = velocities - np.cross(np.linalg.pinv(_inertia(arms, masses), rcond=1e-9) @ momentum, arms)
    return np.asarray(velocities, dtype=np.float64)


def degrees_of_freedom(atoms: Atoms, conserves_momentum: bool) -> int:
    """Kinetic degrees of freedom: 3n, less the overall motion where it stays as it is, and was removed."""
    total = 3 * len(atoms)
    if not conserves_momentum:
        return total
    total -= 3
    if not atoms.pbc.any():
        masses = atoms.get_masses()[:, None]
        arms = atoms.positions - (masses * atoms.positions).sum(0) / masses.sum()
        total -= int(np.linalg.matrix_rank(_inertia(arms, masses), tol=1e-6, hermitian=True))
    return max(total, 1)


def _inertia(arms: FloatArray, masses: FloatArray) -> FloatArray:
    """Tensor of inertia (3, 3), amu angstrom^2."""
    squares = (masses * arms**2).sum()
    return np.asarray(squares * np.eye(3) - (masses * arms).T @ arms)
