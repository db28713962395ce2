"""Everything that was measured on one run, against one reference."""

from dataclasses import dataclass
from typing import Any

from piwsl._version import __version__
from piwsl.analysis.observables import (
    Observable,
    bond_rows,
    coordination_rows,
    curve_rows,
    diffusion_rows,
    distance_rows,
    drift_rows,
    internal_rows,
    shape_rows,
    temperature_row,
)
from piwsl.analysis.quantities.angles import InternalComparison
from piwsl.analysis.quantities.bond_lengths import BondLengths
from piwsl.analysis.quantities.diffusion import Diffusion
from piwsl.analysis.quantities.energy import EnergyDrift, TemperatureStatistics
from piwsl.analysis.quantities.radial import Coordination
from piwsl.analysis.quantities.shape import ShapeComparison
from piwsl.analysis.quantities.stability import Stability
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.run_directory import Run
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison
from piwsl.analysis.statistics.results import Measurement
from piwsl.structures.contacts import Contact

FORMAT = "piwsl-analysis"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run measured against a reference.

    Attributes:
        run: what was analyzed.
        reference: what it was compared with.
        stability: by the bond rule.
        contact: the first collapse of unbonded atoms within the frames whose bonds hold, or None.
        distances: h(r) of a molecule; None where no frame was stable.
        pair_distances: h(r) of the pairs of each two elements, such as ``C-H``; empty where no frame was stable.
        bonds: one entry per bond type; empty where no frame was stable.
        internal: angles and dihedrals; None where no frame was stable.
        shapes: means of what describes the whole molecule, or the cell; empty where no frame was stable.
        temperature, drift: None where the run wrote no energies; drift for NVE only.
        notes: what a reader of the numbers should know.
        curves: functions of one variable; g(r) of a periodic cell is among them.
        coordination, diffusion: of a periodic cell.
    """

    run: Run
    reference: ReferenceStatistics
    stability: Stability
    contact: Contact | None
    distances: DistributionComparison | None
    pair_distances: dict[str, DistributionComparison]
    bonds: tuple[BondLengths, ...]
    internal: InternalComparison | None
    shapes: tuple[ShapeComparison, ...]
    temperature: TemperatureStatistics | None
    drift: EnergyDrift | None
    notes: tuple[str, ...]
    curves: tuple[CurveComparison, ...] = ()
    coordination: tuple[Coordination, ...] = ()
    diffusion: tuple[Diffusion, ...] = ()

    @property
    def compares_structure(self) -> bool:
        """Whether any frame was stable."""
        return self.distances is not None or any(curve.family == "rdf" for curve in self.curves)

    @property
    def stable(self) -> bool:
        """No broken bond and no collapse in the trajectory, and no stop rule ended the run."""
        whole = self.stability.broken is None and self.contact is None
        return whole and self.run.summary["result"] != "stopped"

    @property
    def complete(self) -> bool:
        """The trajectory reaches to the end of what was asked for."""
        return self.run.requested_time - float(self.run.times[-1]) < self.stability.resolution

    @property
    def stable_time(self) -> Measurement:
        """Until the first broken frame, the stop rule, or the end, fs.

        Stop rules look more often than frames are written, so a run can end by one before a frame shows it.
        """
        if self.contact is not None:
            return Measurement(self.contact.time, None, "fs", 1)
        stop = self.run.summary.get("stop") or {}
        if self.stability.broken is None and not self.stable and stop.get("step") is not None:
            time = float(stop["step"]) * float(self.run.summary["timestep_fs"])
            return Measurement(time, None, "fs", 1)
        return self.stability.time

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All numbers, in the order of the table."""
        rows = [Observable("stable_time", "Stable time", run=self.stable_time), *self._times_by_rule()]
        if self.distances is not None:
            rows += distance_rows("h_of_r", "h(r)", self.distances)
        for kind, found in self.pair_distances.items():
            rows += distance_rows(f"h_of_r.{kind}", f"h(r) {kind}", found)
        rows += curve_rows(self.curves)
        rows += coordination_rows(self.coordination)
        for bond in self.bonds:
            rows += bond_rows(bond)
        rows += [] if self.internal is None else internal_rows(self.internal)
        rows += shape_rows(self.shapes)
        rows += diffusion_rows(self.diffusion)
        rows += [] if self.temperature is None else [temperature_row(self.temperature)]
        rows += [] if self.drift is None else drift_rows(self.drift)
        return tuple(rows)

    def _times_by_rule(self) -> list[Observable]:
        """When each rule was violated first: the bond rule, contacts, and the rules of the run that were."""
        stability, contact = self.stability, self.contact
        times = {} if stability.broken is None else {"bond": stability.time.value}
        times |= {} if contact is None else {"contact": contact.time}
        stop = self.run.summary.get("stop")
        for violation in [*(self.run.summary.get("violations") or []), *([stop] if stop else [])]:
            if violation.get("step") is not None and violation.get("rule") not in (None, *times):
                times[violation["rule"]] = float(violation["step"]) * float(self.run.summary["timestep_fs"])
        return [
            Observable(f"stable_time.{rule}", f"Until rule {rule}", Measurement(time, None, "fs", 1))
            for rule, time in times.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "piwsl_version": __version__,
            "run": {
                "directory": self.run.path.name,
                "system": self.run.name,
                "formula": self.run.formula,
                "ensemble": self.run.ensemble,
                "temperature_K": self.run.summary["temperature_K"],
                "requested_fs": self.run.requested_time,
                "done_fs": self.run.done_time,
                "frames": len(self.run.frames),
                "result": self.run.summary["result"],
                "stop": self.run.summary.get("stop"),
            },
            "reference": {
                "name": self.reference.name,
                "frames": self.reference.frames,
                "length_fs": self.reference.length,
                "sha256": self.reference.digest,
            },
            "stable": self.stable,
            "stable_time": self.stable_time.as_dict(),
            "stability": self.stability.as_dict(),
            "contact": None if self.contact is None else self.contact.as_dict(),
            "h_of_r": None if self.distances is None else self.distances.as_dict(),
            "h_of_r_by_pair": {kind: found.as_dict() for kind, found in self.pair_distances.items()},
            "bonds": {bond.kind: bond.as_dict() for bond in self.bonds},
            **({"angles": {}, "dihedrals": {}} if self.internal is None else self.internal.as_dict()),
            "coordination": {one.name: one.as_dict() for one in self.coordination},
            "temperature": None if self.temperature is None else self.temperature.as_dict(),
            "energy_drift": None if self.drift is None else self.drift.as_dict(),
            "observables": {one.key: one.as_dict() for one in self.observables},
            "within_noise": {one.key: one.agrees for one in self.observables if one.difference is not None},
            "curves": {curve.key: curve.as_dict() for curve in self.curves},
            "notes": list(self.notes),
        }
