"""Progress of a run: reports for callbacks, and the state that another process reads from the run directory."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from piwsl.md.run_directory import THERMO
from piwsl.runs.progress import Step, duration, reporting, to_stderr
from piwsl.runs.summary import MDSummary
from piwsl.trajectories.thermo import read_latest
from piwsl.units import PICOSECOND

_NANOSECOND = 1000 * PICOSECOND  # fs
_DAY = 86400.0  # s


@dataclass(frozen=True)
class Progress:
    """State of a run, as passed to a progress callback.

    Attributes:
        step: Current step of each replica.
        total: Total number of steps of each replica.
        steps_per_second: Speed of each replica, steps/s.
        ns_per_day: Total speed of all replicas, ns/day.
        temperature: Mean temperature since the last call, K.
        seconds_left: Estimated remaining time, s.
        replicas: Number of active replicas.
    """

    step: int
    total: int
    steps_per_second: float
    ns_per_day: float
    temperature: float
    seconds_left: float
    replicas: int = 1

    def text(self) -> str:
        """Return the speed, the temperature and the remaining time as text."""
        replicas = f" of {self.replicas} replicas" if self.replicas > 1 else ""
        kelvin = "" if math.isnan(self.temperature) else f"{self.temperature:.0f} K, "
        speed = f"{self.steps_per_second:.0f} steps/s{replicas}, {self.ns_per_day:.2f} ns/day"
        return f"{speed}, {kelvin}{duration(self.seconds_left)} left"


def reporting_progress(
    progress: Callable[[Progress], None] | bool | None, write: Callable[[str], None] = to_stderr
) -> AbstractContextManager[Callable[[Progress], None] | None]:
    """Return a context manager that converts the argument ``progress`` of a run to a callback."""
    return reporting(progress, "step", lambda state: Step(state.step, state.total, state.text()), write)


def nanoseconds_per_day(steps_per_second: float, timestep: float) -> float:
    """Convert a speed in steps/s to ns/day for a time step in fs."""
    return steps_per_second * timestep * _DAY / _NANOSECOND


class SpeedMeter:
    """Meter of the speed of a session; also determines when progress is due.

    Args:
        first: First step of the session.
        total: Last step of the session.
        timestep: Time step, fs.
        pause: Minimum time between two calls of the callback, s.
    """

    def __init__(self, first: int, total: int, timestep: float, pause: float = 0.2) -> None:
        self._first, self._total, self._timestep, self._pause = first, total, timestep, pause
        self._began = time.perf_counter()
        self._reported = self._began
        self._temperatures: list[float] = []

    @property
    def seconds(self) -> float:
        """Time since the start of the session, s."""
        return time.perf_counter() - self._began

    def speed(self, step: int) -> tuple[float, float]:
        """Return the mean speed of this session in steps/s and in ns/day."""
        rate = (step - self._first) / max(self.seconds, 1e-9)
        return rate, nanoseconds_per_day(rate, self._timestep)

    def add(self, temperature: float) -> None:
        """Add a temperature, K, to the mean of the next report."""
        self._temperatures.append(temperature)

    def due(self) -> bool:
        """Return whether enough time has passed since the last report."""
        return time.perf_counter() - self._reported >= self._pause

    def progress(self, step: int, replicas: int) -> Progress:
        """Return the current progress for a number of active replicas, and begin the next reporting interval."""
        rate, nanoseconds = self.speed(step)
        mean = sum(self._temperatures) / len(self._temperatures) if self._temperatures else float("nan")
        self._temperatures.clear()
        self._reported = time.perf_counter()
        left = (self._total - step) / rate if rate > 0 else float("inf")
        return Progress(step, self._total, rate, nanoseconds * replicas, mean, left, replicas)


@dataclass(frozen=True)
class LiveView:
    """State of a run as read from the run directory.

    Attributes:
        summary: Content of ``summary.json``.
        columns: Latest values of each column of ``thermo.csv``, the newest value last.
        silence: Time since the last row was written, s; None before the first row.
    """

    summary: MDSummary
    columns: dict[str, list[float]]
    silence: float | None

    @property
    def ended(self) -> bool:
        """Whether the run has ended and has recorded its result."""
        return self.summary.ended

    @property
    def step(self) -> int:
        """The latest known step."""
        rows = self.columns.get("step", [])
        return max(int(rows[-1]) if rows else 0, self.summary.steps_done)


def read_progress(directory: Path) -> LiveView:
    """Read the latest state of a run; the cost does not depend on the length of the run.

    Raises:
        RunDirectoryError: The directory contains no run.
    """
    summary = MDSummary.read(directory)
    path = directory / THERMO
    columns = read_latest(path)
    rows = columns.get("step", [])
    return LiveView(summary, columns, time.time() - path.stat().st_mtime if rows else None)
