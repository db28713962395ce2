"""What `piwsl analyze` shows: progress while it reads, the table at the end."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from piwsl.analysis import Analysis, Comparison, Observable, judge
from piwsl.analysis.analyze import ReadProgress
from piwsl.analysis.groups import Row, RunGroup, side_by_side, verdict_of
from piwsl.analysis.statistics.results import significant

HEADERS = ("quantity", "run", "reference", "difference", "noise limit", "samples", "")
MARKS = {True: "=", False: "*", None: "?"}
STYLES = {True: "", False: "bold yellow", None: "dim"}


@contextmanager
def reading() -> Iterator[ReadProgress | None]:
    """Show a bar for what is read, on a terminal only: yields its callback, or None."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"reading the {what}", completed=done, total=total)

        yield show


def print_analysis(analysis: Analysis) -> None:
    """Print verdicts, table and files: with rich on a terminal, in plain columns elsewhere."""
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


def _print_one(comparison: Comparison) -> None:
    verdict = judge(comparison)
    click.echo(verdict.stability)
    if comparison.compares_structure:
        click.echo(verdict.agreement)
    click.echo()
    rows = [(cells(one), STYLES[one.agrees] if one.difference else "") for one in comparison.observables]
    _print_table(HEADERS, [(texts, ["", "", "", "", "", "", style]) for texts, style in rows], is_last_text=True)
    for note in comparison.notes:
        click.echo(f"note: {note}")


def _print_several(groups: Sequence[RunGroup]) -> None:
    for group in groups:
        click.echo(f"{group.name}: {' '.join(filter(None, verdict_of(group)))}")
    click.echo()
    rows = []
    for line in side_by_side(groups):
        texts = [line.name, "" if line.reference is None else line.reference.text()]
        styles = ["", "dim"]
        for cell in line.cells:
            texts.append(several_cell(cell))
            styles.append("" if cell is None or cell.difference is None else STYLES[cell.agrees])
        rows.append((tuple(texts), styles))
    _print_table(("quantity", "reference", *(group.name for group in groups)), rows)
    click.echo("= within noise of the reference, * differs by more than noise, ? too few samples to say")
    notes: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(note for one in group.members for note in one.notes):
            notes.setdefault(note, []).append(group.name)
    for note, names in notes.items():
        click.echo(f"note: {note}" if len(names) == len(groups) else f"note: {', '.join(names)}: {note}")


def several_cell(cell: Row | None) -> str:
    """Value, how many of several replicas agree, and the mark of its verdict."""
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
    """Left, then numbers to the right; the last column to the left where it is text."""
    last = len(headers) - is_last_text
    if sys.stdout.isatty():
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


def cells(row: Observable) -> tuple[str, ...]:
    """The texts of one line, in the order of `HEADERS`."""
    difference, samples = "", 0 if row.run is None else row.run.samples
    limit = verdict = ""
    if row.difference is not None:
        found = row.difference
        difference, samples = found.measured.text(), found.measured.samples
        limit = significant(found.threshold)
        verdict = {True: "within noise", False: "differs", None: "not known"}[found.agrees]
    run = "" if row.run is None else row.run.text()
    reference = "" if row.reference is None else row.reference.text()
    return row.name, run, reference, difference, limit, str(samples), verdict
