"""Progress displays: a bar on a terminal or in a notebook, otherwise a plain line after each tenth of the work.

Functions with an argument ``progress`` accept a callback, True or False to show or hide a bar, or None, which shows a
bar in notebooks and in interactive sessions. Bars and lines are written to the standard error stream.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple, Protocol, TypeVar

State = TypeVar("State")
_PAUSE = 0.2  # s between two updates of a bar in a notebook
_UNKNOWN_PAUSE = 10.0  # s between two lines if the total is not known


class Step(NamedTuple):
    """Progress of a computation.

    Attributes:
        done: Number of finished units.
        total: Total number of units; None if it is not known.
        text: Details such as losses, speed and remaining time.
    """

    done: int
    total: int | None
    text: str = ""


class Display(Protocol):
    """Interface of a progress display."""

    def update(self, step: Step) -> None:
        """Show the progress."""


def is_watched() -> bool:
    """Return whether the process runs in a notebook or in an interactive session on a terminal."""
    return in_notebook() or (hasattr(sys, "ps1") and sys.stderr.isatty())


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def to_stderr(line: str) -> None:
    """Write a line to the standard error stream; omit the line if the stream is closed or its disk is full.

    Raises:
        BrokenPipeError: The program that reads the stream has ended.
    """
    if sys.stderr is None:  # print would use the standard output
        return
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  # progress requested by the caller
    except BrokenPipeError:
        raise
    except OSError:
        pass


@contextmanager
def reporting(
    progress: Callable[[State], None] | bool | None,
    unit: str,
    describe: Callable[[State], Step],
    write: Callable[[str], None] = to_stderr,
) -> Iterator[Callable[[State], None] | None]:
    """Convert the argument ``progress`` of a function to a callback.

    Args:
        progress: Callback, which is returned unchanged; True or False to show or hide a display; None to show a display
            in interactive sessions only.
        unit: Name of the counted unit, such as ``step``; empty if the text of a step contains the count.
        describe: Function that converts a reported state to a `Step`.
        write: Function that prints a plain line if there is neither a terminal nor a notebook.

    Yields:
        The callback, or None if nothing is to be shown.
    """
    if callable(progress):
        yield progress
        return
    if progress is False or (progress is None and not is_watched()):
        yield None
        return
    with display(unit, write) as shown:
        yield lambda state: shown.update(describe(state))


@contextmanager
def counting(
    progress: Callable[[int, Any], None] | bool | None,
    unit: str,
    write: Callable[[str], None] = to_stderr,
    describe: Callable[[int, int | None], str] = lambda done, total: "",
) -> Iterator[Callable[[int, Any], None] | None]:
    """Convert the argument ``progress`` of a counting function to a callback (done, total); see `reporting`."""
    if callable(progress):
        yield progress
        return
    with reporting(progress, unit, _unchanged, write) as report:
        yield None if report is None else lambda done, total: report(Step(done, total, describe(done, total)))


def _unchanged(step: Step) -> Step:
    return step


@contextmanager
def display(unit: str, write: Callable[[str], None] = to_stderr) -> Iterator[Display]:
    """Open a progress display for the environment: a notebook, a terminal, or lines of text."""
    if in_notebook():
        bar = _NotebookBar(unit)
        try:
            yield bar
        finally:
            bar.draw()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(unit, write)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[count]}"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _TerminalBar(progress, unit)


class _TerminalBar:
    """Progress bar on a terminal; a decreasing count starts a new bar."""

    def __init__(self, progress: Any, unit: str) -> None:
        self._progress, self._unit = progress, unit
        self._task: Any = None
        self._done = 0

    def update(self, step: Step) -> None:
        """Update the bar."""
        if self._task is None or step.done < self._done:
            # The bar starts at the first reported step; otherwise, the speed of a resumed run would be too high.
            self._task = self._progress.add_task("", total=step.total, completed=step.done, count="")
        self._done = step.done
        self._progress.update(
            self._task,
            completed=step.done,
            total=step.total,
            description=step.text,
            count=_count(self._unit, step),
        )


class _NotebookBar:
    """HTML progress bar in the output of a notebook cell."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._step = Step(0, None)
        self._drawn = -_PAUSE
        self._handle: Any = None

    def update(self, step: Step) -> None:
        """Update the bar, at most a few times per second."""
        self._step = step
        if time.monotonic() - self._drawn >= _PAUSE:
            self.draw()

    def draw(self) -> None:
        """Draw the latest step."""
        from IPython.display import HTML, display

        self._drawn = time.monotonic()
        picture = HTML(bar_html(self._unit, self._step))
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


def bar_html(unit: str, step: Step) -> str:
    """Return a progress bar as HTML, followed by the count and the text."""
    value = "" if step.total is None else f' value="{step.done}" max="{max(1, step.total)}"'
    words = "  ".join(filter(None, (_count(unit, step), step.text)))
    return f'<div><progress{value} style="width: 20em"></progress> <code>{escape(words)}</code></div>'


class _Lines:
    """Display that writes a line after each tenth of the work, including the last."""

    def __init__(self, unit: str, write: Callable[[str], None]) -> None:
        self._unit, self._write = unit, write
        self._tenth: int | None = None
        self._done = 0
        self._written = time.monotonic()

    def update(self, step: Step) -> None:
        """Write a line if the next tenth has been reached."""
        if step.total is None:
            if time.monotonic() - self._written >= _UNKNOWN_PAUSE:
                self._line(step)
            return
        tenth = 10 * step.done // max(1, step.total)
        if self._tenth is None or step.done < self._done:
            self._tenth = min(tenth, 9)  # resumed work does not start at 0
        self._done = step.done
        if tenth > self._tenth:
            self._tenth = tenth
            self._line(step)

    def _line(self, step: Step) -> None:
        self._written = time.monotonic()
        self._write("  ".join(filter(None, (_count(self._unit, step), step.text))))


def _count(unit: str, step: Step) -> str:
    if not unit:
        return ""
    return f"{unit} {step.done}" if step.total is None else f"{unit} {step.done}/{step.total}"


def duration(seconds: float) -> str:
    """Return a time as text such as ``1:02:03``, or ``?`` if the time is not known."""
    if not seconds < 1e8:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def rough_duration(seconds: float) -> str:
    """Return an estimated time as text such as ``12 min``, in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
