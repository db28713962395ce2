"""Progress of a run: a bar on a terminal, a plain line every tenth elsewhere."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from piwsl.cli.flags import with_flags
from piwsl.md.progress import Progress
from piwsl.runs.provenance import listening

LOGGER = logging.getLogger("piwsl")


class _Echo(logging.Handler):
    """Lines of the run's log on the screen."""

    def __init__(self, console: Console | None) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            return  # comes back as the error of the command
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        line = prefix + with_flags(record.getMessage())
        if self._console:
            self._console.print(line, markup=False, highlight=False)
        else:
            click.echo(line)


@contextmanager
def md_display() -> Iterator[Callable[[Progress], None]]:
    """Show the lines of a run, and give the callback that shows how far it is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        with listening(LOGGER, _Echo(None)):
            yield _TenthPrinter()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
    with Bar(*columns, console=console, transient=True) as bar, listening(LOGGER, _Echo(bar.console)):
        task = bar.add_task("md", total=None, figures="")

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.step, total=progress.total, figures=figures(progress))

        yield show


class _TenthPrinter:
    """A line at each tenth of the run."""

    def __init__(self) -> None:
        self._told: int | None = None

    def __call__(self, progress: Progress) -> None:
        tenth = 10 * progress.step // progress.total
        if self._told is None:
            self._told = tenth  # a restart begins somewhere
        if tenth > self._told:
            self._told = tenth
            click.echo(f"{10 * tenth:3d} %  step {progress.step} of {progress.total}, {figures(progress)}")


def figures(progress: Progress) -> str:
    """Speed, temperature and time left, in words."""
    minutes, seconds = divmod(round(min(progress.seconds_left, 1e8)), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}"
    replicas = f" of {progress.replicas} replicas" if progress.replicas > 1 else ""
    kelvin = "" if math.isnan(progress.temperature) else f"{progress.temperature:.0f} K, "
    speed = f"{progress.steps_per_second:.0f} steps/s{replicas}, {progress.ns_per_day:.2f} ns/day"
    return f"{speed}, {kelvin}{left} left"
