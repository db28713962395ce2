"""All results of comparing one run with one reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from piwsl._version import __version__
from piwsl.analysis.quantities import absent_values
from piwsl.analysis.quantities.stability import Stability
from piwsl.analysis.quantity import Observable, Panel, QuantityComparison
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.run_directory import Run
from piwsl.analysis.skip import NO_SKIP, Skip
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.results import Measurement, plain

FORMAT = "piwsl-analysis"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """Comparison of a run with a reference.

    ``comparison["bonds"]`` returns the result of the quantity with this key. The keys are defined in
    `piwsl.analysis.quantities`.

    Attributes:
        run: Run that was analyzed.
        reference: Statistics of the reference.
        stability: Stability by the bond criterion, with the first collapse of unbonded atoms.
        notes: Remarks on the results, such as skipped frames.
        compared: Results of the measured quantities in the order of the table.
        skip: Start of the run that is skipped.
    """

    run: Run
    reference: ReferenceStatistics
    stability: Stability
    notes: tuple[str, ...]
    compared: tuple[QuantityComparison[Any], ...]
    skip: Skip = NO_SKIP

    def __getitem__(self, key: str) -> Any:
        for entry in self.compared:
            if entry.key == key:
                return entry.details
        raise KeyError(f"{key} was not compared: use one of {', '.join(entry.key for entry in self.compared)}")

    def __contains__(self, key: object) -> bool:
        return any(entry.key == key for entry in self.compared)

    @property
    def curves(self) -> tuple[CurveComparison, ...]:
        """Curves, such as g(r) and the vibrational spectrum."""
        return tuple(curve for entry in self.compared for curve in entry.curves)

    @property
    def drawn(self) -> tuple[Panel | CurveComparison, ...]:
        """Distributions and curves, in the order of the report."""
        drawn: list[Panel | CurveComparison] = []
        for entry in self.compared:
            drawn += [*entry.panels, *entry.curves]
        return tuple(drawn)

    @property
    def compares_structure(self) -> bool:
        """Whether structure was compared, which requires stable frames."""
        return self.stability.stable_frames > 0

    @property
    def stable(self) -> bool:
        """Whether no bond broke, no atoms collapsed, and no stop rule ended the run."""
        is_whole = self.stability.broken is None and self.stability.contact is None
        return is_whole and self.run.summary.result != "stopped"

    @property
    def complete(self) -> bool:
        """Whether the trajectory reaches the requested length."""
        return self.run.requested_time - float(self.run.times[-1]) < self.stability.resolution

    @property
    def stable_time(self) -> Measurement:
        """Time until the first broken frame, the stop rule, or the end, fs.

        Stop rules are checked more often than frames are written, so that a run can end before a frame shows the
        violation.
        """
        if self.stability.contact is not None:
            return Measurement(self.stability.contact.time, None, "fs", 1)
        stop = self.run.summary.stop
        if self.stability.broken is None and not self.stable and stop is not None:
            time = stop.step * self.run.summary.timestep_fs
            return Measurement(time, None, "fs", 1)
        return self.stability.time

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All observables in the order of the table."""
        rows = [Observable("stable_time", "Stable time", run=self.stable_time), *self._times_by_rule()]
        return (*rows, *(row for entry in self.compared for row in entry.rows))

    def _times_by_rule(self) -> list[Observable]:
        """Return the times of the first violations of bond criterion, contact criterion and stop rules."""
        stability, contact = self.stability, self.stability.contact
        times = {} if stability.broken is None else {"bond": stability.time.value}
        times |= {} if contact is None else {"contact": contact.time}
        summary = self.run.summary
        for violation in [*summary.violations, *([] if summary.stop is None else [summary.stop])]:
            times.setdefault(violation.rule, violation.step * summary.timestep_fs)
        return [
            Observable(f"stable_time.{rule}", f"Until rule {rule}", Measurement(time, None, "fs", 1))
            for rule, time in times.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all results as plain values for JSON."""
        contact, stop = self.stability.contact, self.run.summary.stop
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "piwsl_version": __version__,
            "run": {
                "directory": self.run.path.name,
                "system": self.run.name,
                "formula": self.run.formula,
                "ensemble": self.run.ensemble,
                "temperature_K": self.run.summary.temperature_K,
                "requested_fs": self.run.requested_time,
                "done_fs": self.run.done_time,
                "frames": len(self.run.frames),
                "result": self.run.summary.result,
                "stop": None if stop is None else stop.model_dump(mode="json", exclude_unset=True),
            },
            "reference": {
                "name": self.reference.name,
                "frames": self.reference.frames,
                "length_fs": None if self.reference.length is None else plain(self.reference.length),
                "sha256": self.reference.digest,
            },
            "skipped": {
                "time_fs": self.skip.time,
                "frames": self.skip.frames,
                "automatic": self.skip.automatic,
                "reason": self.skip.note,
            },
            "no_verdict": self.skip.obstacle,
            "stable": self.stable,
            "stable_time": self.stable_time.as_dict(),
            "stability": self.stability.as_dict(),
            "contact": None if contact is None else contact.as_dict(),
            **self._plain_quantities(),
            "observables": {row.key: row.as_dict() for row in self.observables},
            "within_noise": {row.key: row.agrees for row in self.observables if row.difference is not None},
            "curves": {curve.key: curve.as_dict() for curve in self.curves},
            "notes": list(self.notes),
        }

    def _plain_quantities(self) -> Mapping[str, Any]:
        plain = absent_values()
        for entry in self.compared:
            plain |= entry.plain
        return plain
