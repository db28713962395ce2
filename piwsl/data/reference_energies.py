"""Reference energies of the elements."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from piwsl.data.census import Census
from piwsl.data.frames import FrameSet
from piwsl.typing import IntArray


def are_determined(frames: FrameSet, known: Iterable[int] = ()) -> bool:
    """Return whether the labeled energies of frames determine an energy of each of their elements.

    Where they do not, there are fewer independent compositions than elements, and `fit_reference_energies` returns one
    of many solutions.

    Args:
        frames: Training frames.
        known: Atomic numbers whose energies are those of isolated atoms.
    """
    census = frames.census
    occurring = np.bincount(census.composition[census.has_energy], minlength=len(census.compositions)) > 0
    free = np.isin(census.numbers, [number for number in census.elements if number not in set(known)])
    counts = census.compositions[occurring][:, free]
    return not free.any() or bool(len(counts) and np.linalg.matrix_rank(counts.astype(float)) == free.sum())


def isolated_atoms(frames: FrameSet) -> IntArray:
    """Return the indices of the frames that are one atom, not periodic, with an energy."""
    census = frames.census
    return np.flatnonzero((census.sizes == 1) & ~census.periodic & census.has_energy)


def atom_energies(frames: FrameSet) -> dict[int, float]:
    """Return the energies of isolated atoms.

    Args:
        frames: Frames of one atom each.

    Returns:
        Lowest energy of each element, eV, by atomic number: that of the ground state.
    """
    energies: dict[int, float] = {}
    for frame in frames:
        number = int(frame.species[0])
        energies[number] = min(frame.energy, energies.get(number, np.inf))
    return energies


def fit_reference_energies(
    frames: FrameSet, elements: list[int], known: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Fit an energy to each element by least squares, so that sums over atoms match the labels.

    For a single composition the solution of least norm is returned. Frames of equal composition enter as their mean,
    weighted with their number, which gives the same fit.

    Args:
        frames: Frames, of which those with an energy are used.
        elements: Atomic numbers.
        known: Energies of isolated atoms, eV, by atomic number, which are kept; the others are fitted to what is left.

    Returns:
        Energy of each element, eV, by atomic number; zeros without labels.
    """
    census = frames.census
    fixed = {z: energy for z, energy in (known or {}).items() if z in elements}
    if fixed:
        counts = np.stack([census.compositions[:, census.numbers == z].sum(1) for z in fixed], axis=1)
        rest = (counts @ np.array(list(fixed.values())))[census.composition]
        free = [z for z in elements if z not in fixed]
        if not free:
            return dict(fixed)
        fitted = _fit(replace(census, energy=census.energy - rest), free)
        return {z: fixed.get(z, fitted.get(z, 0.0)) for z in elements}
    return _fit(census, elements)


def _fit(census: Census, elements: list[int]) -> dict[int, float]:
    counts = np.stack([census.compositions[:, census.numbers == z].sum(1) for z in elements], axis=1).astype(float)
    sizes = counts.sum(1)  # atoms of these elements
    labeled = census.has_energy & (sizes > 0)[census.composition]
    number = np.bincount(census.composition[labeled], minlength=len(census.compositions))
    occurring = number > 0
    if not occurring.any():
        return dict.fromkeys(elements, 0.0)
    # Subtracting the mean energy per atom first keeps large total energies well conditioned.
    per_atom = float(np.mean(census.energy[labeled] / sizes[census.composition[labeled]]))
    excess = np.where(labeled, census.energy - per_atom * sizes[census.composition], 0.0)
    mean_excess = np.bincount(census.composition, excess, minlength=len(number))[occurring] / number[occurring]
    weights = np.sqrt(number[occurring])
    solution, *_ = np.linalg.lstsq(counts[occurring] * weights[:, None], mean_excess * weights, rcond=None)
    return {z: float(value) + per_atom for z, value in zip(elements, solution, strict=True)}
