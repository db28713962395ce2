"""Everything that is measured on one run, against one reference."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from piwsl._version import __version__
from piwsl.errors import DataError
from piwsl.md.analysis.bonds import BondLengths, compare_bond_statistics
from piwsl.md.analysis.contacts import Contact
from piwsl.md.analysis.curves import CurveComparison
from piwsl.md.analysis.distributions import DistributionComparison, compare
from piwsl.md.analysis.energy import EnergyDrift, TemperatureStatistics, energy_drift, temperature_statistics
from piwsl.md.analysis.internal import InternalComparison, compare_internal, torsion_profiles
from piwsl.md.analysis.reference import Reference
from piwsl.md.analysis.reference_statistics import ReferenceStatistics
from piwsl.md.analysis.results import Difference, Measurement
from piwsl.md.analysis.run_directory import Run, Thermo
from piwsl.md.analysis.same_molecule import check_formula, check_order, map_atoms
from piwsl.md.analysis.shape import ShapeComparison, compare_shapes, rmsd_curve
from piwsl.md.analysis.spectrum import compare_spectra, longest_interval, shortest_segment
from piwsl.md.analysis.stability import Stability
from piwsl.md.analysis.structure import StructureStatistics, find_stable_frames, structure_of
from piwsl.units import PICOSECOND

FORMAT = "piwsl-analysis"
FORMAT_VERSION = 1


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


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run measured against a reference.

    Attributes:
        run: what was analysed.
        reference: what it was compared with.
        stability: by the bond rule.
        contact: the first collapse of unbonded atoms within the frames whose bonds hold, or None.
        distances: h(r); None where no frame was stable.
        pair_distances: h(r) of the pairs of each two elements, such as ``C-H``; empty where no frame was stable.
        bonds: one entry per bond type; empty where no frame was stable.
        internal: angles and dihedrals; None where no frame was stable.
        shapes: means of what describes the whole molecule; empty where no frame was stable.
        temperature, drift: None where the run wrote no energies; drift for NVE only.
        notes: what a reader of the numbers should know.
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
        rows = [Observable("stable_time", "Stable time", run=self.stable_time)]
        if self.distances is not None:
            rows += _distances("h_of_r", "h(r)", self.distances)
        for kind, found in self.pair_distances.items():
            rows += _distances(f"h_of_r.{kind}", f"h(r) {kind}", found)
        for bond in self.bonds:
            key, name = f"bond.{bond.kind}", bond.kind
            rows += [
                Observable(f"{key}.mean", f"{name} length", bond.mean, bond.reference_mean, bond.mean_difference),
                Observable(f"{key}.width", f"{name} width", bond.width, bond.reference_width, bond.width_difference),
                Observable(f"{key}.distribution", f"{name} distribution", difference=bond.distribution.difference),
                Observable(
                    f"{key}.wasserstein",
                    f"{name} distribution, Wasserstein",
                    difference=bond.distribution.wasserstein,
                ),
            ]
        if self.internal is not None:
            rows += _internal(self.internal)
        for shape in self.shapes:
            key = f"shape.{shape.name.replace(' ', '_')}"
            name = shape.name if shape.name.isupper() else shape.name.capitalize()
            rows.append(Observable(key, name, shape.mean, shape.reference_mean, shape.difference))
        if self.temperature is not None:
            rows.append(self._temperature(self.temperature))
        if self.drift is not None:
            rows += [
                Observable("energy_drift.per_10_ps", "Total-energy drift", self.drift.per_10_ps),
                Observable("energy_drift.per_ns", "Total-energy drift, per ns", self.drift.per_ns),
                Observable("energy_fluctuation", "Total-energy fluctuation", self.drift.fluctuation),
            ]
        return tuple(rows)

    @staticmethod
    def _temperature(found: TemperatureStatistics) -> Observable:
        if found.target is None:
            return Observable("temperature", "Temperature", found.mean)
        target = Measurement(found.target, 0.0, "K", found.mean.samples)
        return Observable("temperature", "Temperature", found.mean, target, found.target_difference)

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
            "temperature": None if self.temperature is None else self.temperature.as_dict(),
            "energy_drift": None if self.drift is None else self.drift.as_dict(),
            "within_noise": {one.key: one.agrees for one in self.observables if one.difference is not None},
            "curves": {curve.key: curve.as_dict() for curve in self.curves},
            "notes": list(self.notes),
        }


def _distances(key: str, name: str, found: DistributionComparison) -> list[Observable]:
    return [
        Observable(key, f"{name} error", difference=found.difference),
        Observable(f"{key}.wasserstein", f"{name}, Wasserstein", difference=found.wasserstein),
    ]


def _internal(found: InternalComparison) -> list[Observable]:
    rows = []
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


def compare_run(run: Run, reference: Reference | ReferenceStatistics, accept_mapping: bool = False) -> Comparison:
    """Measure a run against a reference, in two passes over the frames of each.

    Structure is compared over the stable frames only. The memory that is needed does not grow with the frames.

    Args:
        run: what is measured.
        reference: its frames, or statistics of them that were saved.
        accept_mapping: take the order of the atoms from the reference, by the bonds of the first frame of the run.

    Raises:
        DataError: different molecules or orders of atoms, a molecule without bonds, or frames that cannot be read.
    """
    check_formula(run.species, reference.species, reference.name)
    against = reference.statistics if isinstance(reference, Reference) else reference
    run, notes = _in_order(run, against, accept_mapping)
    stable = find_stable_frames(run.frames, run.times, against.bonds)
    notes += [*run.notes, *against.notes]
    distances: DistributionComparison | None = None
    by_pair: dict[str, DistributionComparison] = {}
    lengths: tuple[BondLengths, ...] = ()
    internal: InternalComparison | None = None
    shapes: tuple[ShapeComparison, ...] = ()
    ours: StructureStatistics | None = None
    if stable.count:
        ours = structure_of(run.frames, against.bonds, stable.modes, stable.count, against.start)
        theirs = against.structure
        distances = compare(ours.distances.all_pairs, theirs.distances.all_pairs)
        by_pair = {
            kind: compare(histogram, theirs.distances.by_kind[kind])
            for kind, histogram in ours.distances.by_kind.items()
        }
        lengths = compare_bond_statistics(ours.bonds, theirs.bonds)
        internal, shapes = compare_internal(ours.internal, theirs.internal), compare_shapes(ours.shape, theirs.shape)
        notes += _about_samples(distances)
        if stable.count < len(run.frames):
            notes.append(f"structure is compared over the {stable.count} frames before the first broken one")
    else:
        notes.append("the first frame is already broken: no structure is compared")
    if against.length is None:
        notes.append(
            f"the frames of {against.name} have no times: their correlation is judged by their order in the file"
        )
    if run.ensemble == "nve":
        notes.append(
            "a constant-energy run need not have the temperature of its reference, which alone makes structure differ"
        )
    end = run.times[stable.count] if stable.count < len(run.times) else np.inf
    temperature, drift = _energies(run.thermo, run, float(end), notes)
    curves = () if ours is None else _curves(ours, against.structure, run, temperature, notes)
    return Comparison(
        run,
        against,
        stable.stability,
        stable.contact,
        distances,
        by_pair,
        lengths,
        internal,
        shapes,
        temperature,
        drift,
        tuple(notes),
        curves,
    )


def _curves(
    ours: StructureStatistics,
    theirs: StructureStatistics,
    run: Run,
    temperature: TemperatureStatistics | None,
    notes: list[str],
) -> tuple[CurveComparison, ...]:
    """Free energies of rotation, the spectrum, and the distance from the first structure against time."""
    found: list[CurveComparison] = []
    kelvin = run.target_temperature or (None if temperature is None else temperature.mean.value)
    if kelvin is not None:
        found += torsion_profiles(ours.internal, theirs.internal, kelvin)
    if ours.spectrum is not None:
        found.append(compare_spectra(ours.spectrum, theirs.spectrum))
    else:
        notes.append(
            f"no vibrational spectrum: it needs frames every {longest_interval(run.species):.1f} fs, for longer than "
            f"{shortest_segment() / PICOSECOND:.1f} ps (piwsl md --trajectory-interval)"
        )
    return (*found, rmsd_curve(ours.shape, run.times))


def _in_order(run: Run, reference: ReferenceStatistics, accepted: bool) -> tuple[Run, list[str]]:
    """The run with its atoms in the order of the reference."""
    _, first = next(run.frames.pieces())
    mapping = map_atoms(run.species, first[0], reference.species, reference.bonds)
    if mapping is not None and np.array_equal(mapping, np.arange(len(mapping))):
        return run, []
    if mapping is None or not accepted:
        check_order(run.species, reference.species, reference.name, mapping)
        if mapping is None:
            return run, []
        return run, [
            f"the bonds of the first frame join other atoms than those of {reference.name}: "
            "if only their order differs, accept that of the reference with --map-atoms"
        ]
    note = f"the atoms of the run are in the order of {reference.name}, as their bonds tell: indices are those of it"
    return replace(run, frames=run.frames.reordered(mapping)), [note]


def _about_samples(distances: DistributionComparison) -> list[str]:
    notes = []
    for side, found in (("run", distances.run), ("reference", distances.reference)):
        if found.samples < 2:
            notes.append(f"the {side} holds fewer than two independent structures: no error bar, no verdict on h(r)")
        if found.beyond > 0:
            notes.append(
                f"{found.beyond:.2%} of the distances of the {side} are beyond {found.edges[-1]:g} Å, outside h(r)"
            )
    return notes


def _energies(
    thermo: Thermo | None, run: Run, end: float, notes: list[str]
) -> tuple[TemperatureStatistics | None, EnergyDrift | None]:
    """Over the rows before the break: what comes after it is no physics."""
    if thermo is None:
        return None, None
    rows = (thermo.times < end) & np.isfinite(thermo.total) & np.isfinite(thermo.temperature)
    temperature = drift = None
    try:
        temperature = temperature_statistics(thermo.temperature[rows], thermo.kinetic[rows], run.target_temperature)
        if run.ensemble == "nve":
            drift = energy_drift(thermo.times[rows], thermo.total[rows], len(run.species))
    except DataError as error:
        notes.append(str(error))
    return temperature, drift
