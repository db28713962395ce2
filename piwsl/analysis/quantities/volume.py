"""Volume per atom of a periodic cell."""

from dataclasses import replace

import numpy as np

from piwsl.analysis.quantity import Frames, QuantityComparison, Sample
from piwsl.analysis.scalar_quantity import ScalarComparison, ScalarQuantity, ScalarStatistics
from piwsl.typing import FloatArray

ROUNDING = 1e-5  # relative; files store lengths with seven digits


class VolumePerAtom(ScalarQuantity):
    """Volume of the cell divided by the number of atoms."""

    key = "shape.volume_per_atom"
    title = "Volume per atom"
    unit = "angstrom^3"

    def applies(self, sample: Sample) -> bool:
        """Return whether the trajectory has a cell."""
        return sample.cell is not None

    def values(self, frames: Frames, sample: Sample) -> FloatArray:
        """Return the volume per atom (f,) of each frame, angstrom^3."""
        assert frames.cells is not None
        return np.asarray(np.abs(np.linalg.det(frames.cells)) / len(sample.species))

    def compare(
        self, run: ScalarStatistics, reference: ScalarStatistics | None, sample: Sample
    ) -> QuantityComparison[ScalarComparison]:
        """Compare the means. Constant volumes have no noise but are rounded in files."""
        comparison = super().compare(run, reference, sample)
        (row,) = comparison.rows
        if row.difference is None or row.difference.limit is None or row.reference is None:
            return comparison
        limit = max(row.difference.limit, ROUNDING * row.reference.value)
        difference = replace(row.difference, limit=limit)
        details = replace(comparison.details, difference=difference)
        return replace(comparison, details=details, rows=[replace(row, difference=difference)])
