"""What `piwsl analyze` shows: progress while it reads, the table at the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from piwsl.md.analysis import Comparison, Observable, judge
from piwsl.md.analysis.results import significant

HEADERS = ("quantity", "run", "reference", "difference", "noise limit", "samples", "")
STYLES = {True: "", False: "bold yellow", None: "dim"}


@contextmanager
def reading(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"reading the {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_comparison(comparison: Comparison, files: dict[str, Path]) -> None:
    """Verdict, table and files: with rich on a terminal, in plain columns elsewhere."""
    verdict = judge(comparison)
    click.echo(verdict.stability)
    if comparison.distances is not None:
        click.echo(verdict.agreement)
    click.echo()
    rows = [(cells(one), one.difference is not None, one.agrees) for one in comparison.observables]
    if sys.stdout.isatty():
        table = Table(*HEADERS, box=None, pad_edge=False, header_style="dim")
        for column in table.columns[1:6]:
            column.justify = "right"
        for texts, compared, agrees in rows:
            style = STYLES[agrees] if compared else ""
            table.add_row(*(Text(text) for text in texts[:-1]), Text(texts[-1], style=style))
        Console().print(table)
    else:
        lines = [HEADERS, *(texts for texts, _, _ in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADERS))]
        for line in lines:
            aligned = [line[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(line[1:-1], widths[1:-1], strict=True))]
            click.echo("  ".join([*aligned, line[-1]]).rstrip())
    for note in comparison.notes:
        click.echo(f"note: {note}")
    click.echo()
    click.echo(f"report: {files['report.html']}")


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
