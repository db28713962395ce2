"""The numbers of a report as CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from piwsl.analysis.groups import Row, RunGroup
from piwsl.analysis.report.overlays import overlays_of
from piwsl.analysis.statistics.curves import Curve
from piwsl.analysis.statistics.results import Measurement, plain

OBSERVABLE_COLUMNS = (
    "run", "key", "name", "unit", "value", "uncertainty", "reference", "reference_uncertainty", "difference",
    "difference_uncertainty", "noise_limit", "samples", "verdict",
)  # fmt: skip
CURVE_COLUMNS = ("key", "curve", "x_name", "x_unit", "y_name", "y_unit", "x", "y", "low", "high", "band")


def numbers_of(groups: Sequence[RunGroup]) -> dict[str, Any] | list[dict[str, Any]]:
    """Everything as plain values: one dictionary for one run or its replicas, a list for several."""
    if len(groups) > 1:
        return [group.as_dict() for group in groups]
    return groups[0].members[0].as_dict() if groups[0].is_single else groups[0].as_dict()


def json_text(groups: Sequence[RunGroup]) -> str:
    """`numbers_of` as JSON."""
    return json.dumps(numbers_of(groups), indent=1, allow_nan=False)


def observables_csv(groups: Sequence[RunGroup]) -> str:
    """One line for each quantity of each run."""
    return _csv(OBSERVABLE_COLUMNS, (_observable(group.name, row) for group in groups for row in group.rows))


def curves_csv(groups: Sequence[RunGroup]) -> str:
    """One line for each point of each curve and distribution; bands as they are drawn."""
    return _csv(CURVE_COLUMNS, _points(groups))


def verdict_word(agrees: bool | None) -> str:
    """What a table says of a difference."""
    return {True: "within noise", False: "differs", None: "not known"}[agrees]


def _observable(name: str, row: Row) -> list[Any]:
    measured = row.difference or row.run
    verdict = "not compared" if row.difference is None else verdict_word(row.agrees)
    return [
        name,
        row.key,
        row.name,
        "" if measured is None else measured.unit,
        *_pair(row.run),
        *_pair(row.reference),
        *_pair(row.difference),
        _number(row.threshold),
        0 if measured is None else measured.samples,
        verdict,
    ]


def _points(groups: Sequence[RunGroup]) -> Iterable[list[Any]]:
    for overlays in overlays_of(groups).values():
        for one in overlays:
            curves: list[tuple[str, Curve]] = [(line.label, line.curve) for line in one.lines]
            if one.reference is not None:
                curves.append(("reference", one.reference))
            axes = [one.horizontal.name, one.horizontal.unit, one.vertical.name, one.vertical.unit]
            for label, curve in curves:
                kind = "95 %" if one.is_density else "standard error"
                for index, x in enumerate(curve.x):
                    band = ["", "", ""]
                    if curve.low is not None and curve.high is not None:
                        band = [_number(curve.low[index]), _number(curve.high[index]), kind]
                    yield [one.key, label, *axes, _number(x), _number(curve.y[index]), *band]


def _csv(header: Sequence[str], lines: Iterable[list[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return stream.getvalue()


def _pair(found: Measurement | None) -> tuple[str, str]:
    return ("", "") if found is None else (_number(found.value), _number(found.uncertainty))


def _number(value: float | None) -> str:
    number = plain(value)
    return "" if number is None else f"{number:.8g}"
