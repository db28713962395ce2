"""The structure a run starts from: reading, checks, initial velocities."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from piwsl.errors import DataError
from piwsl.structures.cells import periodic_directions
from piwsl.structures.neighbors import neighbor_pairs
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

# No two atoms of a molecule come closer than H-H, 0.74 angstrom; a strongly bent H-O-H keeps 1.5.
CLOSEST_DISTANCE = 0.5  # angstrom


def atom_name(atoms: Atoms, index: int) -> str:
    """``C3`` is the atom of index 3, a carbon; indices start at 0."""
    return f"{atoms.symbols[index]}{index}"


def load_structure(path: Path) -> Atoms:
    """Read the last structure of a file that ASE knows.

    Raises:
        DataError: the file is missing or not readable, or the structure fails `check_structure`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        atoms = read(path, index=-1)
    except Exception as error:  # ASE's readers raise whatever their parsers meet
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a structure file that ASE reads ({reason})") from None
    assert isinstance(atoms, Atoms)
    check_structure(atoms, str(path))
    atoms.calc = None
    return atoms


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Refuse a structure that no potential can start from.

    Raises:
        DataError: it has no atoms, a position that is not a finite number, or two atoms on top of each other.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise DataError(f"{where}: the position of atom {atom_name(atoms, int(bad[0]))} is not a finite number")
    close = neighbor_pairs(atoms.positions, atoms.cell.array, periodic_directions(atoms), CLOSEST_DISTANCE)
    close = close.select(close.first != close.second)
    if len(close.distances):
        closest = int(close.distances.argmin())
        i, j = sorted((int(close.first[closest]), int(close.second[closest])))
        raise DataError(
            f"{where}: atoms {atom_name(atoms, i)} and {atom_name(atoms, j)} are {close.distances[closest]:.2f} "
            f"angstrom apart (closer than {CLOSEST_DISTANCE}): correct the structure"
        )


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
