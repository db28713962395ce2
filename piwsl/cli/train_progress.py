"""What `piwsl train` shows while it works."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from piwsl.runs.provenance import listening

if TYPE_CHECKING:
    from piwsl.training.data import TrainingFrames
    from piwsl.training.fit import TrainingProgress

PLAIN_LINES = 20
# The log of a run, its part that tells what was loaded from a trained file, and what else is worth showing.
_RUN, _START = "piwsl.training", "piwsl.training.start"
_BEGINNING = ("computed on:", "resumed:")


class TrainingDisplay:
    """Shows the data report and every step: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, bar: Progress | None) -> None:
        self.bar = bar
        self.task: TaskID | None = None

    def data(self, frames: "TrainingFrames") -> None:
        """Print the data report."""
        for line in frames.lines():
            click.echo(line, err=line.startswith("warning:"))

    def member(self, seed: int, directory: Path) -> None:
        """Begin a member of an ensemble."""
        click.echo(f"member             seed {seed}, in {directory}")
        if self.bar is not None and self.task is not None:
            self.bar.remove_task(self.task)
        self.task = None

    def step(self, progress: "TrainingProgress") -> None:
        """Show one step."""
        losses = "  ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
        force_mae = progress.validation_force_mae
        error = f"  force MAE {1e3 * force_mae:.0f} meV/A" if force_mae is not None else ""
        text = f"{losses}{error}"
        if self.bar is None:
            every = max(1, progress.steps // PLAIN_LINES)
            if progress.step % every == 0 or progress.step == progress.steps:
                click.echo(f"step {progress.step}/{progress.steps}  {text}  {_minutes(progress.seconds_left)} left")
            return
        if self.task is None:
            self.task = self.bar.add_task("", total=progress.steps, completed=progress.step)
        self.bar.update(self.task, completed=progress.step, description=text)


class _Echo(logging.Handler):
    """Prints those lines of the log of a run that its beginning consists of."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name == _START:
            click.echo(f"start: {text}")
        elif text.startswith(_BEGINNING):
            click.echo(text)


@contextmanager
def training_display() -> Iterator[TrainingDisplay]:
    """A display for the time of a training run; a silent one in all but the first of several processes."""
    from piwsl.training.distributed.processes import launched_processes

    if launched_processes().rank > 0:
        with listening(logging.getLogger(_RUN), logging.NullHandler()):
            yield TrainingDisplay(None)
        return
    console = Console()
    with listening(logging.getLogger(_RUN), _Echo()):
        if not console.is_terminal:
            yield TrainingDisplay(None)
            return
        columns = (
            TextColumn("train"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=console) as bar:
            yield TrainingDisplay(bar)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds == seconds else "?"
