"""Tables of several runs with one column per run; the replicas of a run share a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from piwsl._version import __version__
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.quantity import Observable
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.results import Measurement
from piwsl.analysis.statistics.uncertainty import CONFIDENCE

FORMAT = "piwsl-analysis-replicas"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One observable of a run or of a set of replicas.

    Attributes:
        key, name: Key and name of the `Observable`.
        run, reference, difference: Measurements; for replicas, the mean with the standard error from their spread.
        threshold: Largest difference explained by noise alone; for replicas, the mean of their thresholds.
        judged: Number of replicas with sufficient data for a verdict.
        agreeing: Number of replicas that agree with the reference within noise.
    """

    key: str
    name: str
    run: Measurement | None
    reference: Measurement | None
    difference: Measurement | None
    threshold: float | None
    judged: int
    agreeing: int

    @property
    def agrees(self) -> bool | None:
        """Whether no more replicas differ than expected by chance; None if not compared or undecided.

        A replica that is equivalent to the reference exceeds its threshold in 5 of 100 cases.
        """
        if not self.judged:
            return None
        differing = self.judged - self.agreeing
        return bool(binom.sf(differing - 1, self.judged, 1 - CONFIDENCE) > 1 - CONFIDENCE)


@dataclass(frozen=True, eq=False)
class RunGroup:
    """A run, or the replicas of a run.

    Attributes:
        name: Name that is unique among all groups of an analysis.
        members: One comparison per replica, all with the same reference.
        curves: Curves of all replicas together, such as survival.
    """

    name: str
    members: tuple[Comparison, ...]
    curves: tuple[CurveComparison, ...] = ()

    @property
    def is_single(self) -> bool:
        """Whether the group is a single run without replicas."""
        return len(self.members) == 1

    @property
    def stable(self) -> bool:
        """Whether all members are stable."""
        return all(member.stable for member in self.members)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in the order of the table."""
        by_key: dict[str, list[Observable]] = {}
        for member in self.members:
            for row in member.observables:
                by_key.setdefault(row.key, []).append(row)
        return tuple(_row(observables) for observables in by_key.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; for replicas, the values of all comparisons and the common rows."""
        if self.is_single:
            return {"name": self.name, **self.members[0].as_dict()}
        return {
            "name": self.name,
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "piwsl_version": __version__,
            "stable": self.stable,
            "stable_replicas": sum(member.stable for member in self.members),
            "observables": {row.key: _plain_row(row) for row in self.rows},
            "curves": {curve.key: curve.as_dict() for curve in self.curves},
            "replicas": [member.as_dict() for member in self.members],
        }


def mean_of(measurements: Sequence[Measurement]) -> Measurement:
    """Return the mean over replicas with the standard error from their spread; a single replica is unchanged."""
    if len(measurements) == 1:
        return measurements[0]
    values = np.array([entry.value for entry in measurements])
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Measurement(float(values.mean()), error, measurements[0].unit, sum(entry.samples for entry in measurements))


def _row(observables: list[Observable]) -> Row:
    runs = [entry.run for entry in observables if entry.run is not None]
    differences = [entry.difference for entry in observables if entry.difference is not None]
    references = {
        (entry.reference.value, entry.reference.unit): entry.reference for entry in observables if entry.reference
    }
    thresholds = [entry.threshold for entry in differences if entry.threshold is not None]
    verdicts = [entry.agrees for entry in differences if entry.agrees is not None]
    return Row(
        observables[0].key,
        observables[0].name,
        mean_of(runs) if runs else None,
        next(iter(references.values())) if len(references) == 1 else None,
        mean_of([entry.measured for entry in differences]) if differences else None,
        float(np.mean(thresholds)) if thresholds else None,
        len(verdicts),
        sum(verdicts),
    )


def _plain_row(row: Row) -> dict[str, Any]:
    measured = {"run": row.run, "reference": row.reference, "difference": row.difference}
    return {
        "name": row.name,
        **{side: None if value is None else value.as_dict() for side, value in measured.items()},
        "threshold": row.threshold,
        "judged": row.judged,
        "agreeing": row.agreeing,
        "within_noise": row.agrees,
    }


@dataclass(frozen=True)
class Line:
    """One observable of all runs.

    Attributes:
        key, name: Key and name of the `Observable`.
        reference: Value of the reference; None if it differs between runs.
        cells: One cell per run; None if a run lacks the observable.
    """

    key: str
    name: str
    reference: Measurement | None
    cells: tuple[Row | None, ...]


def side_by_side(groups: Sequence[RunGroup]) -> tuple[Line, ...]:
    """Return the table of all runs with one column per run."""
    columns = [{row.key: row for row in group.rows} for group in groups]
    names = {key: row.name for column in columns for key, row in column.items()}
    lines = []
    for key, name in names.items():
        cells = tuple(column.get(key) for column in columns)
        references = [cell.reference for cell in cells if cell is not None]
        same = len({None if reference is None else reference.value for reference in references}) == 1
        lines.append(Line(key, name, references[0] if same else None, cells))
    return tuple(lines)
