"""Everything `piwsl analyze` leaves behind, written so that nobody sees half of it."""

import io
from collections.abc import Sequence
from pathlib import Path

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.page import render_page
from piwsl.analysis.report.plots import plots_of
from piwsl.analysis.report.style import LIGHT, WIDE, Plot, drawing, file_svg
from piwsl.analysis.report.tables import curves_csv, json_text, observables_csv
from piwsl.errors import RunDirectoryError
from piwsl.runs.files import atomic_path

JSON_FILE = "analysis.json"
OBSERVABLES_FILE = "observables.csv"
CURVES_FILE = "curves.csv"
REPORT_FILE = "report.html"
FIGURES = "figures"
OWN = {JSON_FILE, OBSERVABLES_FILE, CURVES_FILE, REPORT_FILE, FIGURES}
DOTS_PER_INCH = 200


def check_output(output: Path) -> None:
    """Refuse a directory that holds anything but an earlier analysis, which may be replaced.

    Raises:
        RunDirectoryError: it holds something else, or is no directory, or cannot be looked into.
    """
    try:
        if not output.exists():
            return
        if not output.is_dir():
            raise RunDirectoryError(f"{output}: a file, not a directory: choose another --output")
        foreign = sorted(file.name for file in output.iterdir() if file.name not in OWN)
        if (output / FIGURES).is_dir():
            pictures = (file for file in (output / FIGURES).iterdir() if file.suffix not in (".png", ".svg"))
            foreign += sorted(f"{FIGURES}/{file.name}" for file in pictures)
    except OSError as error:
        raise RunDirectoryError(f"{output}: {error.strerror}: choose another --output") from None
    if foreign:
        raise RunDirectoryError(f"{output}: holds {foreign[0]}, which is not of an analysis: choose another --output")


def write_analysis(groups: Sequence[RunGroup], output: Path, with_report: bool = True) -> dict[str, Path]:
    """Write analysis.json and the tables; with a report also report.html and the figures as PNG and SVG.

    Everything is made before the first file is written. What an earlier analysis left there and this one does not
    have is removed.

    Returns:
        The files by name, in the order in which they were written; the report last.

    Raises:
        RunDirectoryError: as `check_output`, or the disk refuses.
    """
    check_output(output)
    contents: dict[str, bytes] = {}
    if with_report:
        plots = plots_of(groups)
        for plot in plots:
            contents[f"{FIGURES}/{plot.name}.png"] = _png(plot)
            contents[f"{FIGURES}/{plot.name}.svg"] = file_svg(plot).encode()
    contents[OBSERVABLES_FILE] = observables_csv(groups).encode()
    contents[CURVES_FILE] = curves_csv(groups).encode()
    contents[JSON_FILE] = (json_text(groups) + "\n").encode()
    if with_report:
        contents[REPORT_FILE] = render_page(groups, plots).encode()
    try:
        for name, content in contents.items():
            with atomic_path(output / name) as temporary:
                temporary.write_bytes(content)
        _remove_others(output, contents)
    except OSError as error:
        raise RunDirectoryError(f"{output}: cannot be written ({error.strerror})") from None
    return {name: output / name for name in contents}


def _remove_others(output: Path, kept: dict[str, bytes]) -> None:
    figures = output / FIGURES
    if figures.is_dir():
        for file in list(figures.iterdir()):
            if f"{FIGURES}/{file.name}" not in kept:
                file.unlink()
        if not any(figures.iterdir()):
            figures.rmdir()
    if REPORT_FILE not in kept:
        (output / REPORT_FILE).unlink(missing_ok=True)


def _png(plot: Plot) -> bytes:
    stream = io.BytesIO()
    with drawing(WIDE, LIGHT):
        figure = plot.draw(WIDE, LIGHT)
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
