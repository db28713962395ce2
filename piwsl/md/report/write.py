"""Everything `piwsl analyze` leaves behind, written so that nobody sees half of it."""

import io
import json
from pathlib import Path

from piwsl.data.files import atomic_path, write_text
from piwsl.errors import RunDirectoryError
from piwsl.md.analysis.comparison import Comparison
from piwsl.md.report.figures import Drawing, draw_bonds, draw_distances, draw_energies
from piwsl.md.report.page import render_page
from piwsl.md.report.style import LIGHT, WIDE, drawing

JSON_FILE = "analysis.json"
REPORT_FILE = "report.html"
FIGURES: dict[str, Drawing] = {
    "h_of_r.png": draw_distances,
    "bond_lengths.png": draw_bonds,
    "energy.png": draw_energies,
}
DOTS_PER_INCH = 200


def check_output(output: Path) -> None:
    """Refuse a directory that holds anything but an earlier analysis, which may be replaced.

    Raises:
        RunDirectoryError: it holds something else, or is no directory.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise RunDirectoryError(f"{output}: a file, not a directory: choose another --output")
    foreign = sorted(file.name for file in output.iterdir() if file.name not in {JSON_FILE, REPORT_FILE, *FIGURES})
    if foreign:
        raise RunDirectoryError(f"{output}: holds {foreign[0]}, which is not of an analysis: choose another --output")


def write_analysis(comparison: Comparison, output: Path) -> dict[str, Path]:
    """Write analysis.json, the figures as PNG, and report.html.

    Everything is made before the first file is written. Figures that this comparison does not have are removed.

    Returns:
        The files by name, in the order in which they were written; the report last.

    Raises:
        RunDirectoryError: as `check_output`.
    """
    check_output(output)
    wanted = {
        "h_of_r.png": comparison.distances,
        "bond_lengths.png": comparison.bonds,
        "energy.png": comparison.run.thermo,
    }
    pictures = {name: _png(draw, comparison) for name, draw in FIGURES.items() if wanted[name]}
    page = render_page(comparison)
    numbers = json.dumps(comparison.as_dict(), indent=1, allow_nan=False) + "\n"
    written = {}
    for name, picture in pictures.items():
        with atomic_path(output / name) as temporary:
            temporary.write_bytes(picture)
        written[name] = output / name
    for name in FIGURES.keys() - pictures.keys():
        (output / name).unlink(missing_ok=True)
    for name, text in ((JSON_FILE, numbers), (REPORT_FILE, page)):
        write_text(output / name, text)
        written[name] = output / name
    return written


def _png(draw: Drawing, comparison: Comparison) -> bytes:
    stream = io.BytesIO()
    with drawing(WIDE, LIGHT):
        figure = draw(comparison, WIDE, LIGHT)
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
