"""Reference energies of the elements."""

import numpy as np

from piwsl.data.frames import FrameSet


def are_determined(frames: FrameSet) -> bool:
    """Return whether the labeled energies of frames determine an energy of each of their elements.

    Where they do not, there are fewer independent compositions than elements, and `fit_reference_energies` returns one
    of many solutions.
    """
    census = frames.census
    occurring = np.bincount(census.composition[census.has_energy], minlength=len(census.compositions)) > 0
    columns = np.isin(census.numbers, census.elements)
    counts = census.compositions[occurring][:, columns]
    return bool(len(counts) and np.linalg.matrix_rank(counts.astype(float)) == columns.sum())


def fit_reference_energies(frames: FrameSet, elements: list[int]) -> dict[int, float]:
    """Fit an energy to each element by least squares, so that sums over atoms match the labels.

    For a single composition the solution of least norm is returned. Frames of equal composition enter as their mean,
    weighted with their number, which gives the same fit.

    Args:
        frames: frames, of which those with an energy are used.
        elements: atomic numbers.

    Returns:
        Energy of each element, eV, by atomic number; zeros without labels.
    """
    census = frames.census
    labeled = census.has_energy
    number = np.bincount(census.composition[labeled], minlength=len(census.compositions))
    occurring = number > 0
    if not occurring.any():
        return dict.fromkeys(elements, 0.0)
    # Subtracting the mean energy per atom first keeps large total energies well conditioned.
    sizes = census.compositions.sum(1)
    per_atom = float(np.mean((census.energy / sizes[census.composition])[labeled]))
    excess = np.where(labeled, census.energy - per_atom * sizes[census.composition], 0.0)
    mean_excess = np.bincount(census.composition, excess, minlength=len(number))[occurring] / number[occurring]
    compositions = census.compositions[occurring]
    counts = np.stack([compositions[:, census.numbers == z].sum(1) for z in elements], axis=1).astype(float)
    weights = np.sqrt(number[occurring])
    solution, *_ = np.linalg.lstsq(counts * weights[:, None], mean_excess * weights, rcond=None)
    return {z: float(value) + per_atom for z, value in zip(elements, solution, strict=True)}
