"""Free-energy profiles for rotation about the rotatable bonds of a molecule."""

import numpy as np

from piwsl.analysis.quantities.dihedrals import DihedralCollector
from piwsl.analysis.quantity import FigureText, Quantity, QuantityComparison, Sample
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.distributions import Histogram, compare
from piwsl.typing import FloatArray
from piwsl.units import BOLTZMANN

MILLI = 1000.0  # meV per eV


class TorsionProfiles(Quantity[dict[str, Histogram]]):
    """Torsion profiles of a molecule at a known temperature."""

    key = "torsions"
    statistics = dict[str, Histogram]

    def collector(self, sample: Sample) -> DihedralCollector:
        """Return a collector of the dihedrals about each rotatable bond; equivalent dihedrals are pooled."""
        return DihedralCollector(sample.graph.rotatable(), sample.frames)

    def compare(
        self, run: dict[str, Histogram], reference: dict[str, Histogram] | None, sample: Sample
    ) -> QuantityComparison[None]:
        """Compare the profiles of each bond if the temperature is known."""
        assert reference is not None
        temperature = sample.temperature
        curves = () if temperature is None else torsion_profiles(run, reference, temperature)
        return QuantityComparison(self.key, None, curves=curves, figures={"torsion": FigureText("Torsion profiles")})


def torsion_profiles(
    run: dict[str, Histogram], reference: dict[str, Histogram], temperature: float
) -> tuple[CurveComparison, ...]:
    """Return the free energy -kT ln p of rotation about each bond, relative to its minimum, in meV; empty bins are NaN.

    Dihedrals of equivalent atoms are pooled, so that a methyl group has three equal wells. The first and the last
    point, at -180 and 180 degrees, are identical.

    Args:
        run: Dihedral histograms of the run by bond name.
        reference: Dihedral histograms of the reference by bond name.
        temperature: Temperature of run and reference, K.
    """
    return tuple(
        CurveComparison(
            f"torsion.{name}",
            name,
            Axis("Dihedral", "degree"),
            Axis("Free energy", "meV"),
            _profile(histogram, temperature),
            _profile(reference[name], temperature),
            compare(histogram, reference[name]).difference,
            notes=(f"-kT ln p at {temperature:g} K; the difference refers to the distributions",),
        )
        for name, histogram in run.items()
    )


def _profile(histogram: Histogram, temperature: float) -> Curve:
    distribution = histogram.distribution()
    centers, density = distribution.centers, _closed(distribution.density)
    is_visited = density > 0
    energy = np.full(len(density), np.nan)
    heat = MILLI * BOLTZMANN * temperature
    energy[is_visited] = -heat * np.log(density[is_visited] / density.max())
    low = high = None
    if distribution.error is not None:
        error = np.full_like(energy, np.nan)
        error[is_visited] = heat * _closed(distribution.error)[is_visited] / density[is_visited]
        low, high = energy - error, energy + error
    degrees = np.concatenate([histogram.edges[:1], centers, histogram.edges[-1:]])
    return Curve(degrees, energy, low, high, distribution.samples)


def _closed(values: FloatArray) -> FloatArray:
    """Close a periodic profile by adding the mean of the first and last bins at both ends."""
    seam = (values[:1] + values[-1:]) / 2
    return np.concatenate([seam, values, seam])
