"""Reference energies of the elements."""

import numpy as np

from piwsl.data.frames import FrameSet
from piwsl.errors import DataError


def fit_reference_energies(frames: FrameSet, elements: list[int]) -> dict[int, float]:
    """Least-squares energy of each element, so that sums over atoms match the labels (eV).

    With one composition the answer is not unique; the one of least norm is taken.

    Raises:
        DataError: no frame has an energy.
    """
    labelled = [frame for frame in frames if frame.has_energy]
    if not labelled:
        return dict.fromkeys(elements, 0.0)
    counts = np.array([[np.count_nonzero(frame.species == z) for z in elements] for frame in labelled], dtype=float)
    energies = np.array([frame.energy for frame in labelled])
    # lstsq at machine precision: subtracting the mean energy per atom first keeps large totals well conditioned.
    per_atom = float(np.mean(energies / counts.sum(1)))
    solution, *_ = np.linalg.lstsq(counts, energies - per_atom * counts.sum(1), rcond=None)
    if not np.isfinite(solution).all():
        raise DataError("the reference energies cannot be fitted: an energy label is not a finite number")
    return {z: float(value) + per_atom for z, value in zip(elements, solution, strict=True)}
