"""Display of an analysis in a notebook: verdict, first figure and table."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from piwsl.analysis.groups import Row, RunGroup, side_by_side
from piwsl.analysis.report.page import measurement_html, name_text
from piwsl.analysis.report.plots import plots_of
from piwsl.analysis.report.style import notebook_svg
from piwsl.analysis.verdict import verdict_of

MARKS = {True: "=", False: "*", None: "?"}
LEGEND = "= within noise of the reference, * differs by more than noise, ? too few samples to decide"


def notebook_html(groups: Sequence[RunGroup]) -> str:
    """Return an HTML fragment without style sheets and scripts."""
    parts = []
    for group in groups:
        name = Markup("<b>{}:</b> ").format(group.name) if len(groups) > 1 else ""
        parts.append(Markup("<p>{}{}</p>").format(name, " ".join(filter(None, verdict_of(group)))))
    plots = plots_of(groups)
    if plots:
        parts.append(Markup('<div style="max-width: 820px">{}</div>').format(Markup(notebook_svg(plots[0]))))
    titles = ("Quantity", "Reference", *(group.name if len(groups) > 1 else "Run" for group in groups))
    head = Markup("").join(Markup("<th>{}</th>").format(title) for title in titles)
    lines = [
        Markup("<tr><td>{}</td><td>{}</td>{}</tr>").format(
            name_text(line.name), measurement_html(line.reference), Markup("").join(_cell(cell) for cell in line.cells)
        )
        for line in side_by_side(groups)
    ]
    table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, Markup("").join(lines))
    parts.append(Markup("<details open><summary>{}</summary>{}</details>").format(LEGEND, table))
    return str(Markup("\n").join(parts))


def _cell(cell: Row | None) -> Markup:
    if cell is None:
        return Markup("<td></td>")
    value = measurement_html(cell.run if cell.run is not None else cell.difference)
    share = f" {cell.agreeing}/{cell.judged}" if cell.judged > 1 else ""
    mark = f" {MARKS[cell.agrees]}" if cell.difference is not None else ""
    return Markup("<td>{}{}</td>").format(value, escape(share + mark))
