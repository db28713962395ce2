"""Several runs side by side: each a column; replicas of one run together are one column."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from piwsl._version import __version__
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.quantity import Observable
from piwsl.analysis.run_directory import SUMMARY_FILE
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.results import Measurement
from piwsl.analysis.statistics.uncertainty import CONFIDENCE
from piwsl.analysis.verdict import judge, picoseconds
from piwsl.errors import ConfigError, RunDirectoryError

FORMAT = "piwsl-analysis-replicas"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One quantity of a run, or of replicas together.

    Attributes:
        key, name: as of the `Observable`.
        run, reference, difference: of replicas the mean over them, with its standard error from their spread.
        threshold: what noise alone explains; of replicas the mean of theirs.
        judged: replicas whose data say whether they agree.
        agreeing: replicas that agree with the reference within noise.
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
        """False where more replicas differ than chance explains; None where it is not compared or nobody knows.

        Each replica alike to the reference falls outside its threshold in 5 of 100 cases.
        """
        if not self.judged:
            return None
        differing = self.judged - self.agreeing
        return bool(binom.sf(differing - 1, self.judged, 1 - CONFIDENCE) > 1 - CONFIDENCE)


@dataclass(frozen=True, eq=False)
class RunGroup:
    """A run, or the replicas of one.

    Attributes:
        name: unique among those shown together.
        members: one comparison a replica, all with the same reference.
        curves: of the replicas together, such as their survival.
    """

    name: str
    members: tuple[Comparison, ...]
    curves: tuple[CurveComparison, ...] = ()

    @property
    def is_single(self) -> bool:
        """One run, no replicas."""
        return len(self.members) == 1

    @property
    def stable(self) -> bool:
        """All members are."""
        return all(one.stable for one in self.members)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All numbers, in the order of the table."""
        found: dict[str, list[Observable]] = {}
        for member in self.members:
            for one in member.observables:
                found.setdefault(one.key, []).append(one)
        return tuple(_row(observables) for observables in found.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: of a run what `Comparison` gives, of replicas these and what they have in common."""
        if self.is_single:
            return {"name": self.name, **self.members[0].as_dict()}
        return {
            "name": self.name,
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "piwsl_version": __version__,
            "stable": self.stable,
            "stable_replicas": sum(one.stable for one in self.members),
            "observables": {row.key: _plain_row(row) for row in self.rows},
            "curves": {curve.key: curve.as_dict() for curve in self.curves},
            "replicas": [one.as_dict() for one in self.members],
        }


def replica_directories(path: Path) -> tuple[Path, ...]:
    """The run directories of a directory of replicas; the directory itself where it is one run.

    Raises:
        RunDirectoryError: its summary names replicas that cannot be directories in it.
    """
    try:
        summary = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return (path,)  # whoever reads it as a run says what is wrong
    if not isinstance(summary, dict) or "replicas" not in summary:
        return (path,)
    entries = summary["replicas"] if isinstance(summary["replicas"], list) else []
    # Either names, or objects that say more of each.
    names = [one.get("directory") if isinstance(one, dict) else one for one in entries]
    plain = [one for one in names if isinstance(one, str) and Path(one).name == one not in ("", "..")]
    if not plain or len(set(plain)) < len(names):
        raise RunDirectoryError(f"{path / SUMMARY_FILE}: 'replicas' does not name different directories")
    return tuple(path / one for one in plain)


def unique_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """A short name for each directory: its last parts, as many as tell them all apart.

    Raises:
        ConfigError: a directory is named twice.
    """
    whole = [path.resolve() for path in paths]
    for index, path in enumerate(whole):
        if path in whole[:index]:
            raise ConfigError(f"{paths[index]}: named twice: name each run once")
    parts = 1
    while len({path.parts[-parts:] for path in whole}) < len(whole):
        parts += 1
    return tuple("/".join(path.parts[-parts:]) for path in whole)


def mean_of(found: Sequence[Measurement]) -> Measurement:
    """Mean over replicas; its standard error is that of their spread. One stays as it is."""
    if len(found) == 1:
        return found[0]
    values = np.array([one.value for one in found])
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Measurement(float(values.mean()), error, found[0].unit, sum(one.samples for one in found))


def _row(observables: list[Observable]) -> Row:
    runs = [one.run for one in observables if one.run is not None]
    differences = [one.difference for one in observables if one.difference is not None]
    references = {(one.reference.value, one.reference.unit): one.reference for one in observables if one.reference}
    thresholds = [one.threshold for one in differences if one.threshold is not None]
    verdicts = [one.agrees for one in differences if one.agrees is not None]
    return Row(
        observables[0].key,
        observables[0].name,
        mean_of(runs) if runs else None,
        next(iter(references.values())) if len(references) == 1 else None,
        mean_of([one.measured for one in differences]) if differences else None,
        float(np.mean(thresholds)) if thresholds else None,
        len(verdicts),
        sum(verdicts),
    )


def _plain_row(row: Row) -> dict[str, Any]:
    measured = {"run": row.run, "reference": row.reference, "difference": row.difference}
    return {
        "name": row.name,
        **{side: None if one is None else one.as_dict() for side, one in measured.items()},
        "threshold": row.threshold,
        "judged": row.judged,
        "agreeing": row.agreeing,
        "within_noise": row.agrees,
    }


@dataclass(frozen=True)
class Line:
    """One quantity of all runs.

    Attributes:
        key, name: as of the `Observable`.
        reference: where all runs have the same.
        cells: one for each run; None where a run lacks it.
    """

    key: str
    name: str
    reference: Measurement | None
    cells: tuple[Row | None, ...]


def side_by_side(groups: Sequence[RunGroup]) -> tuple[Line, ...]:
    """The table of all runs, a column each."""
    columns = [{row.key: row for row in group.rows} for group in groups]
    names = {key: row.name for column in columns for key, row in column.items()}
    lines = []
    for key, name in names.items():
        cells = tuple(column.get(key) for column in columns)
        found = [cell.reference for cell in cells if cell is not None]
        same = len({None if one is None else one.value for one in found}) == 1
        lines.append(Line(key, name, found[0] if same else None, cells))
    return tuple(lines)


def verdict_of(group: RunGroup) -> tuple[str, str]:
    """Two sentences: how long it was physical, and how much of it is like the reference; the second may be empty."""
    if group.is_single:
        comparison = group.members[0]
        verdict = judge(comparison)
        return verdict.stability, verdict.agreement if comparison.compares_structure else ""
    broken = [one for one in group.members if not one.stable]
    count = len(group.members)
    if broken:
        first = min(one.stable_time.value for one in broken)
        stability = (
            f"{count - len(broken)} of {count} replicas stable; the first to break did so at {picoseconds(first)}."
        )
    else:
        shortest = min(one.stable_time.value for one in group.members)
        stability = f"All {count} replicas stable, for {picoseconds(shortest)} or longer."
    verdicts = [row.agrees for row in group.rows if row.agrees is not None]
    if not verdicts:
        return stability, ""
    return stability, f"{sum(verdicts)} of {len(verdicts)} observables agree with the reference within noise."
