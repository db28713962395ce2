"""The lines of the table: what is measured of a run, of its reference, and their difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from piwsl.analysis.quantities.angles import InternalComparison
from piwsl.analysis.quantities.bond_lengths import BondLengths
from piwsl.analysis.quantities.diffusion import Diffusion
from piwsl.analysis.quantities.energy import EnergyDrift, TemperatureStatistics
from piwsl.analysis.quantities.radial import Coordination
from piwsl.analysis.quantities.shape import ShapeComparison
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison
from piwsl.analysis.statistics.results import Difference, Measurement

# Families of curves that are lines of the table, and what their names begin with.
NAMES = {"rdf": "g(r) ", "spectrum": ""}


@dataclass(frozen=True)
class Observable:
    """One line of the table: a quantity of the run, of the reference, and their difference, where each exists.

    Attributes:
        key: stable name for programs, such as ``bond.C-H.mean``.
        name: for people.
    """

    key: str
    name: str
    run: Measurement | None = None
    reference: Measurement | None = None
    difference: Difference | None = None

    @property
    def agrees(self) -> bool | None:
        """Within noise or not; None where it is not compared or the data do not say."""
        return None if self.difference is None else self.difference.agrees

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {"run": self.run, "reference": self.reference, "difference": self.difference}
        return {"name": self.name} | {key: one.as_dict() for key, one in parts.items() if one is not None}


def distance_rows(key: str, name: str, found: DistributionComparison) -> list[Observable]:
    """Of h(r)."""
    return [
        Observable(key, f"{name} error", difference=found.difference),
        Observable(f"{key}.wasserstein", f"{name}, Wasserstein", difference=found.wasserstein),
    ]


def bond_rows(bond: BondLengths) -> list[Observable]:
    """Of the bonds of one type."""
    key, name, lengths = f"bond.{bond.kind}", bond.kind, bond.distribution
    return [
        Observable(f"{key}.mean", f"{name} length", bond.mean, bond.reference_mean, bond.mean_difference),
        Observable(f"{key}.width", f"{name} width", bond.width, bond.reference_width, bond.width_difference),
        Observable(f"{key}.distribution", f"{name} distribution", difference=lengths.difference),
        Observable(f"{key}.wasserstein", f"{name} distribution, Wasserstein", difference=lengths.wasserstein),
    ]


def internal_rows(found: InternalComparison) -> list[Observable]:
    """Of angles and dihedrals."""
    rows: list[Observable] = []
    for kind, angle in found.angles.items():
        rows += [
            Observable(f"angle.{kind}.mean", f"{kind} angle", *angle.mean),
            Observable(f"angle.{kind}.width", f"{kind} angle, width", *angle.width),
            Observable(
                f"angle.{kind}.distribution", f"{kind} angle, distribution", difference=angle.distribution.difference
            ),
        ]
    return rows + [
        Observable(f"dihedral.{kind}.distribution", f"{kind} dihedral, distribution", difference=one.difference)
        for kind, one in found.dihedrals.items()
    ]


def shape_rows(shapes: Sequence[ShapeComparison]) -> list[Observable]:
    """Of the whole molecule, or the cell."""
    rows = []
    for shape in shapes:
        name = shape.name if shape.name.isupper() else shape.name.capitalize()
        key = f"shape.{shape.name.replace(' ', '_')}"
        rows.append(Observable(key, name, shape.mean, shape.reference_mean, shape.difference))
    return rows


def coordination_rows(found: Sequence[Coordination]) -> list[Observable]:
    """Of the first shells of a periodic cell."""
    return [
        Observable(
            f"coordination.{one.name.replace(' ', '_')}",
            f"Neighbors {one.name}",
            one.run,
            one.reference,
            one.difference,
        )
        for one in found
    ]


def diffusion_rows(found: Sequence[Diffusion]) -> list[Observable]:
    """Of the elements of a periodic cell."""
    return [
        Observable(f"diffusion.{one.element}", f"Diffusion of {one.element}", one.run, one.reference, one.difference)
        for one in found
    ]


def curve_rows(curves: Sequence[CurveComparison]) -> list[Observable]:
    """Of curves that are compared by an area of their own: g(r) and the spectrum."""
    return [
        Observable(curve.key, f"{NAMES[curve.family]}{curve.name}", difference=curve.difference)
        for curve in curves
        if curve.family in NAMES and curve.difference is not None
    ]


def temperature_row(found: TemperatureStatistics) -> Observable:
    """Beside that of the thermostat, where there is one."""
    if found.target is None:
        return Observable("temperature", "Temperature", found.mean)
    target = Measurement(found.target, 0.0, "K", found.mean.samples)
    return Observable("temperature", "Temperature", found.mean, target, found.target_difference)


def drift_rows(found: EnergyDrift) -> list[Observable]:
    """Of the total energy at constant energy."""
    return [
        Observable("energy_drift.per_10_ps", "Total-energy drift", found.per_10_ps),
        Observable("energy_drift.per_ns", "Total-energy drift, per ns", found.per_ns),
        Observable("energy_fluctuation", "Total-energy fluctuation", found.fluctuation),
    ]
