"""Output of `piwsl analyze`: numbers as JSON and CSV, figures and the report page, written atomically."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from piwsl.analysis.groups import Row, RunGroup
from piwsl.analysis.report.overlays import overlays_of
from piwsl.analysis.report.page import render_page
from piwsl.analysis.report.plots import plots_of
from piwsl.analysis.report.style import pictures_of
from piwsl.analysis.statistics.curves import Curve
from piwsl.analysis.statistics.results import Measurement, plain
from piwsl.errors import RunDirectoryError
from piwsl.runs.files import csv_text, unwritable, write_bytes
from piwsl.runs.json_text import json_text as finite_json
from piwsl.runs.scratch import sweep

JSON_FILE = "analysis.json"
OBSERVABLES_FILE = "observables.csv"
CURVES_FILE = "curves.csv"
REPORT_FILE = "report.html"
FIGURES = "figures"
OWN = {JSON_FILE, OBSERVABLES_FILE, CURVES_FILE, REPORT_FILE, FIGURES}
OBSERVABLE_COLUMNS = (
    "run", "key", "name", "unit", "value", "uncertainty", "reference", "reference_uncertainty", "difference",
    "difference_uncertainty", "noise_limit", "samples", "verdict",
)  # fmt: skip
CURVE_COLUMNS = ("key", "curve", "x_name", "x_unit", "y_name", "y_unit", "x", "y", "low", "high", "band")


def check_output(output: Path) -> None:
    """Raise an error if a directory contains files other than an earlier analysis, which may be replaced.

    Raises:
        RunDirectoryError: The directory contains other files, is not a directory, or cannot be read.
    """
    try:
        if not output.exists():
            return
        if not output.is_dir():
            raise RunDirectoryError(f"{output} is a file, not a directory: choose another output=DIR")
        # Hidden files are those of killed processes, of processes that write now, and of file managers.
        foreign = sorted(file.name for file in visible(output) if file.name not in OWN)
        if (output / FIGURES).is_dir():
            pictures = (file for file in visible(output / FIGURES) if file.suffix not in (".png", ".svg"))
            foreign += sorted(f"{FIGURES}/{file.name}" for file in pictures)
    except OSError as error:
        raise RunDirectoryError(f"{output}: {error.strerror}: choose another output=DIR") from None
    if foreign:
        raise RunDirectoryError(
            f"{output}: contains {foreign[0]}, which is not part of an analysis: choose another output=DIR"
        )


def visible(directory: Path) -> list[Path]:
    """Return the entries of a directory whose names do not begin with a period."""
    return [entry for entry in directory.iterdir() if not entry.name.startswith(".")]


def write_analysis(groups: Sequence[RunGroup], output: Path, with_report: bool = True) -> dict[str, Path]:
    """Write analysis.json and the tables, and optionally report.html and the figures as PNG and SVG.

    All contents are computed before the first file is written. Files of an earlier analysis that are not overwritten
    are removed.

    Returns:
        Paths of the files by name, in the order of writing, with the report last.

    Raises:
        RunDirectoryError: The directory cannot be used, as in `check_output`, or a file cannot be written.
    """
    check_output(output)
    contents: dict[str, bytes] = {}
    if with_report:
        pictures = [pictures_of(plot) for plot in plots_of(groups)]
        for picture in pictures:
            contents[f"{FIGURES}/{picture.plot.name}.png"] = picture.png
            contents[f"{FIGURES}/{picture.plot.name}.svg"] = picture.svg.encode()
    contents[OBSERVABLES_FILE] = observables_csv(groups).encode()
    contents[CURVES_FILE] = curves_csv(groups).encode()
    contents[JSON_FILE] = (json_text(groups) + "\n").encode()
    if with_report:
        contents[REPORT_FILE] = render_page(groups, pictures).encode()
    try:
        for name, content in contents.items():
            write_bytes(output / name, content)
        _remove_others(output, contents)
    except OSError as error:
        raise unwritable(output, error) from None
    return {name: output / name for name in contents}


def _remove_others(output: Path, kept: dict[str, bytes]) -> None:
    figures = output / FIGURES
    if figures.is_dir():
        sweep(figures)
        for file in visible(figures):
            if f"{FIGURES}/{file.name}" not in kept:
                file.unlink(missing_ok=True)
        if not any(figures.iterdir()):
            figures.rmdir()
    sweep(output)
    if REPORT_FILE not in kept:
        (output / REPORT_FILE).unlink(missing_ok=True)


def numbers_of(groups: Sequence[RunGroup]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return all results as plain values: a dictionary for one group, a list for several groups."""
    if len(groups) > 1:
        return [group.as_dict() for group in groups]
    return groups[0].members[0].as_dict() if groups[0].is_single else groups[0].as_dict()


def json_text(groups: Sequence[RunGroup]) -> str:
    """Return the results of `numbers_of` as JSON."""
    return finite_json(numbers_of(groups), indent=1)


def observables_csv(groups: Sequence[RunGroup]) -> str:
    """Return a CSV table with one line per observable and run."""
    return csv_text(OBSERVABLE_COLUMNS, (_observable(group.name, row) for group in groups for row in group.rows))


def curves_csv(groups: Sequence[RunGroup]) -> str:
    """Return a CSV table with one line per point of each curve and distribution, with the drawn bands."""
    return csv_text(CURVE_COLUMNS, _points(groups))


def verdict_word(agrees: bool | None) -> str:
    """Return the word for a verdict in a table."""
    return {True: "within noise", False: "differs", None: "cannot tell"}[agrees]


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
        for overlay in overlays:
            curves: list[tuple[str, Curve]] = [(line.label, line.curve) for line in overlay.lines]
            if overlay.reference is not None:
                curves.append(("reference", overlay.reference))
            axes = [overlay.horizontal.name, overlay.horizontal.unit, overlay.vertical.name, overlay.vertical.unit]
            for label, curve in curves:
                kind = "95 %" if overlay.is_density else "standard error"
                for index, x in enumerate(curve.x):
                    band = ["", "", ""]
                    if curve.low is not None and curve.high is not None:
                        band = [_number(curve.low[index]), _number(curve.high[index]), kind]
                    yield [overlay.key, label, *axes, _number(x), _number(curve.y[index]), *band]


def _pair(measurement: Measurement | None) -> tuple[str, str]:
    return ("", "") if measurement is None else (_number(measurement.value), _number(measurement.uncertainty))


def _number(value: float | None) -> str:
    number = plain(value)
    return "" if number is None else f"{number:.8g}"
