"""A counter for long work: a bar on a terminal, a line each tenth elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress


@contextmanager
def counting_display(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that shows how far the work is."""
    console = Console()
    if console.is_terminal:
        with Progress(console=console) as bar:
            task = bar.add_task(unit, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    shown = -1

    def line(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // max(1, total)
        if tenth > shown:
            shown = tenth
            click.echo(f"{done}/{total} {unit}")

    yield line


@contextmanager
def download_display(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function (bytes here, bytes in all or None) that shows how far a download is."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    shown = -1

    def line(done: int, total: int | None) -> None:
        nonlocal shown
        step = 10 * done // total if total else done // 100_000_000
        if step > shown:
            shown = step
            click.echo(f"{done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB", err=True)

    yield line
