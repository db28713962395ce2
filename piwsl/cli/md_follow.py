"""`piwsl md --follow`: show the progress of a run in another terminal."""

import time
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from piwsl.md.progress import LiveView, read_progress
from piwsl.units import PICOSECOND

_PAUSE = 1.0  # s between updates
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60  # number of values in a line of bars
_SHOWN = ("potential [eV]", "total [eV]", "temperature [K]", "volume [A^3]", "density [g/cm^3]")


def follow(directory: Path) -> None:
    """Show the progress of a run until the run ends; Ctrl-C ends only the display.

    Raises:
        RunDirectoryError: The directory contains no run.
    """
    console = Console()
    view = read_progress(directory)
    try:
        if console.is_terminal:
            with Live(_picture(view, directory), console=console, refresh_per_second=4) as live:
                while not view.ended:
                    time.sleep(_PAUSE)
                    view = read_progress(directory)
                    live.update(_picture(view, directory))
        else:
            _plain(view, directory)
    except KeyboardInterrupt:
        click.echo(f"the run in {directory} continues")


def _plain(view: LiveView, directory: Path) -> None:
    """Print a line after each tenth of the run."""
    told = -1
    while True:
        tenth = 10 * view.step // view.summary.steps_requested
        if tenth > told or view.ended:
            told = tenth
            click.echo(", ".join(filter(None, (_headline(view), _state(view)))))
        if view.ended:
            return
        time.sleep(_PAUSE)
        view = read_progress(directory)


def _headline(view: LiveView) -> str:
    summary, step = view.summary, view.step
    text = f"step {step} of {summary.steps_requested} ({step * summary.timestep_fs / PICOSECOND:g} ps)"
    speed = summary.speed
    if speed.steps_per_second and speed.ns_per_day:
        text += f", {speed.steps_per_second:.0f} steps/s, {speed.ns_per_day:.2f} ns/day"
    if view.columns.get("temperature [K]"):
        text += f", {view.columns['temperature [K]'][-1]:.0f} K"
    return text


def _state(view: LiveView) -> str:
    """Return the result of the run, or the time without output; empty while the run makes progress."""
    if view.ended:
        stop = view.summary.stop
        return view.summary.result + (f": {stop.message}" if stop else "")
    quiet = view.silence is not None and view.silence > 60
    return f"no output for {view.silence / 60:.0f} min" if quiet and view.silence else ""


def _picture(view: LiveView, directory: Path) -> Group:
    summary = view.summary
    title = Text(f"{summary.system.name}, {summary.ensemble}, {summary.engine}: {directory}", style="bold")
    bar = ProgressBar(total=summary.steps_requested, completed=view.step, width=_WIDTH)
    table = Table.grid(padding=(0, 2))
    for name in _SHOWN:
        values = view.columns.get(name, [])[-_WIDTH:]
        if values:
            table.add_row(name, f"{values[-1]:.6g}", bars(values))
    return Group(title, bar, Text(_headline(view)), table, Text(_state(view)))


def bars(values: list[float]) -> str:
    """Return values as a line of bars, scaled from the lowest to the highest value."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)
