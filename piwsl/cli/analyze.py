"""`piwsl analyze`: compare runs with a reference."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from piwsl.cli.command import Command, with_flags

if TYPE_CHECKING:
    from piwsl.analysis import Analysis, Comparison, Observable
    from piwsl.analysis.groups import Row, RunGroup

HEADERS = ("quantity", "run", "reference", "difference", "noise limit", "samples", "")
MARKS = {True: "=", False: "*", None: "?"}
STYLES = {True: "", False: "bold yellow", None: "dim"}


@click.command(name="analyze", cls=Command)
@click.argument("run_directories", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Trajectory, npz, extended XYZ or saved statistics to compare with.  [default: reference of the system]",
)
@click.option(
    "--reference-topology",
    type=click.Path(path_type=Path),
    help="PDB file for a reference trajectory that contains positions only (DCD, XTC, ...).",
)
@click.option(
    "--save-reference",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the statistics of the reference as npz, for use with --reference instead of the frames.",
)
@click.option(
    "--map-atoms",
    "accept_mapping",
    is_flag=True,
    help="Map the atoms to the reference by their bonds if their order differs.",
)
@click.option(
    "--skip",
    metavar="PS",
    type=float,
    help="Picoseconds to skip at the start of each run.  [default: until the energies stop drifting]",
)
@click.option("--units", help="Units of an npz or XYZ reference if its lengths are not in angstrom, such as nm.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory for the results.  [default: RUN_DIR/analysis, or ./analysis for several runs]",
)
@click.option(
    "--report/--no-report", "with_report", default=True, help="Write report.html and figures.  [default: yes]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of a table.")
def command(
    run_directories: tuple[Path, ...],
    reference: Path | None,
    reference_topology: Path | None,
    save_reference: Path | None,
    accept_mapping: bool,
    skip: float | None,
    units: str | None,
    output: Path | None,
    with_report: bool,
    as_json: bool,
) -> None:
    """Compare the run in RUN_DIR with a reference: stability, distances, bond lengths, energy.

    Several runs are shown side by side, with one column for all replicas of a run. The command writes analysis.json,
    tables, figures and report.html, and replaces an earlier analysis in the same directory.
    """
    from piwsl.analysis import analyze
    from piwsl.analysis.report import json_text
    from piwsl.errors import ConfigError

    if reference is None and (reference_topology is not None or units is not None):
        raise ConfigError("--reference-topology and --units describe a reference: add --reference FILE")
    if output is None:
        output = Path("analysis") if len(run_directories) > 1 else run_directories[0] / "analysis"
    analysis = analyze(
        run_directories,
        reference=reference,
        reference_topology=reference_topology,
        units=units,
        accept_mapping=accept_mapping,
        skip=skip,
        output=output,
        report=with_report,
        save_reference=save_reference,
        progress=sys.stderr.isatty(),
    )
    if as_json:
        click.echo(json_text(analysis.groups))
    else:
        _print_analysis(analysis)


def _print_analysis(analysis: "Analysis") -> None:
    """Print verdicts, table and files, with rich on a terminal and in plain columns otherwise."""
    groups = analysis.groups
    if len(groups) == 1 and groups[0].is_single:
        _print_one(groups[0].members[0])
    else:
        _print_several(groups)
    click.echo()
    if "report.html" in analysis.files:
        click.echo(f"report: {analysis.files['report.html']}")
    else:
        click.echo(f"numbers: {analysis.files['analysis.json']}")


def _print_one(comparison: "Comparison") -> None:
    from piwsl.analysis import judge

    verdict = judge(comparison)
    click.echo(verdict.stability)
    if comparison.compares_structure:
        click.echo(verdict.agreement)
    click.echo()
    rows = [(_cells(row), STYLES[row.agrees] if row.difference else "") for row in comparison.observables]
    _print_table(HEADERS, [(texts, ["", "", "", "", "", "", style]) for texts, style in rows], is_last_text=True)
    for note in comparison.notes:
        _print_note(note, ())


def _print_several(groups: "Sequence[RunGroup]") -> None:
    from piwsl.analysis.groups import side_by_side
    from piwsl.analysis.report.notebook import LEGEND
    from piwsl.analysis.verdict import verdict_of

    for group in groups:
        click.echo(f"{group.name}: {' '.join(filter(None, verdict_of(group)))}")
    click.echo()
    rows = []
    for line in side_by_side(groups):
        texts = [line.name, "" if line.reference is None else line.reference.text()]
        styles = ["", "dim"]
        for cell in line.cells:
            texts.append(_several_cell(cell))
            styles.append("" if cell is None or cell.difference is None else STYLES[cell.agrees])
        rows.append((tuple(texts), styles))
    _print_table(("quantity", "reference", *(group.name for group in groups)), rows)
    click.echo(LEGEND)
    notes: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(note for member in group.members for note in member.notes):
            notes.setdefault(note, []).append(group.name)
    for note, names in notes.items():
        _print_note(note, [] if len(names) == len(groups) else names)


def _print_note(note: str, names: Iterable[str]) -> None:
    """Print a note with the names of its runs, and with options in place of Python arguments."""
    text = with_flags(note, click.get_current_context().command)
    click.echo(": ".join(filter(None, ("note", ", ".join(names), text))))


def _several_cell(cell: "Row | None") -> str:
    """Return the text of a cell: the value, the number of replicas that agree, and the mark of the verdict."""
    if cell is None:
        return ""
    value = cell.run or cell.difference
    text = "" if value is None else value.text()
    if cell.judged > 1:
        text += f" {cell.agreeing}/{cell.judged}"
    return text if cell.difference is None else f"{text} {MARKS[cell.agrees]}"


def _print_table(
    headers: tuple[str, ...], rows: Sequence[tuple[tuple[str, ...], Sequence[str]]], is_last_text: bool = False
) -> None:
    """Print a table with right-aligned numbers; the first column, and a last column of text, are left-aligned."""
    last = len(headers) - is_last_text
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, box=None, pad_edge=False, header_style="dim")
        for column in table.columns[1:last]:
            column.justify = "right"
        for texts, styles in rows:
            table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
        Console().print(table)
        return
    lines = [headers, *(texts for texts, _ in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        aligned = [
            t.rjust(w) if 0 < n < last else t.ljust(w) for n, (t, w) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(aligned).rstrip())


def _cells(row: "Observable") -> tuple[str, ...]:
    """Return the cells of one line as text, in the order of `HEADERS`."""
    from piwsl.analysis.statistics.results import significant

    difference, samples = "", 0 if row.run is None else row.run.samples
    limit = verdict = ""
    if row.difference is not None:
        compared = row.difference
        difference, samples = compared.measured.text(), compared.measured.samples
        limit = significant(compared.threshold)
        verdict = {True: "within noise", False: "differs", None: "cannot tell"}[compared.agrees]
    run = "" if row.run is None else row.run.text()
    reference = "" if row.reference is None else row.reference.text()
    return row.name, run, reference, difference, limit, str(samples), verdict
