"""A quantity of your own in an analysis: the end-to-end distance of a molecule.

    python examples/own_quantity.py RUN_DIR REFERENCE [OUTPUT]

It stands in the table, in analysis.json, in the CSV files and in the report like the quantities of piwsl.
"""

import sys

import numpy as np

from piwsl.analysis import Frames, Sample, ScalarQuantity, analyze


class EndToEndDistance(ScalarQuantity):
    """Distance between the first and the last heavy atom."""

    key = "end_to_end"
    title = "End-to-end distance"
    unit = "angstrom"
    edges = np.linspace(0.0, 20.0, 401)  # of the histogram; without edges only the means are compared

    def applies(self, sample: Sample) -> bool:
        """Return whether this is a molecule with two heavy atoms."""
        return sample.cell is None and np.count_nonzero(sample.species > 1) > 1

    def values(self, frames: Frames, sample: Sample) -> np.ndarray:
        """Return the distance (f,) in each frame, angstrom."""
        heavy = np.flatnonzero(sample.species > 1)
        return np.linalg.norm(frames.positions[:, heavy[-1]] - frames.positions[:, heavy[0]], axis=-1)


def main() -> None:
    run, reference, *output = sys.argv[1:]
    analysis = analyze(run, reference=reference, quantities=[EndToEndDistance()], output=next(iter(output), None))
    distance = analysis.comparisons[0]["end_to_end"]
    print(analysis.verdict)
    print(f"end-to-end distance: {distance.mean.text()}, reference {distance.reference_mean.text()}")
    print(f"within noise: {distance.difference.agrees}")


if __name__ == "__main__":
    main()
