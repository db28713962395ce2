"""The progress of a run, as it reports it and as another process reads it from its directory."""

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
        step, total: of each replica.
        steps_per_second: of each replica.
        ns_per_day: of all replicas together.
        temperature: K, the mean since the last call.
        seconds_left: s.
        replicas: that are left.
    """

    step: int
    total: int
    steps_per_second: float
    ns_per_day: float
    temperature: float
    seconds_left: float
    replicas: int = 1

    def text(self) -> str:
        """Return speed, temperature and the time that is left as text."""
        replicas = f" of {self.replicas} replicas" if self.replicas > 1 else ""
        kelvin = "" if math.isnan(self.temperature) else f"{self.temperature:.0f} K, "
        speed = f"{self.steps_per_second:.0f} steps/s{replicas}, {self.ns_per_day:.2f} ns/day"
        return f"{speed}, {kelvin}{duration(self.seconds_left)} left"


def reporting_progress(
    progress: Callable[[Progress], None] | bool | None, write: Callable[[str], None] = to_stderr
) -> AbstractContextManager[Callable[[Progress], None] | None]:
    """Turn the argument ``progress`` of a run into a callback."""
    return reporting(progress, "step", lambda state: Step(state.step, state.total, state.text()), write)


def nanoseconds_per_day(steps_per_second: float, timestep: float) -> float:
    """Return the speed in ns/day of steps of ``timestep`` fs."""
    return steps_per_second * timestep * _DAY / _NANOSECOND


class SpeedMeter:
    """Speed of a session, and when its progress is due.

    Args:
        first: step at which the session starts.
        total: step at which it ends.
        timestep: fs.
        pause: seconds between two calls of the callback.
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
        """Return steps per second and nanoseconds per day of this session."""
        rate = (step - self._first) / max(self.seconds, 1e-9)
        return rate, nanoseconds_per_day(rate, self._timestep)

    def add(self, temperature: float) -> None:
        """Add a temperature."""
        self._temperatures.append(temperature)

    def due(self) -> bool:
        """Return whether enough time passed since the last report."""
        return time.perf_counter() - self._reported >= self._pause

    def progress(self, step: int, replicas: int) -> Progress:
        """Return the present progress with a number of replicas, and start a new pause."""
        rate, nanoseconds = self.speed(step)
        mean = sum(self._temperatures) / len(self._temperatures) if self._temperatures else float("nan")
        self._temperatures.clear()
        self._reported = time.perf_counter()
        left = (self._total - step) / rate if rate > 0 else float("inf")
        return Progress(step, self._total, rate, nanoseconds * replicas, mean, left, replicas)


@dataclass(frozen=True)
class LiveView:
    """State of a run, read from its directory.

    Attributes:
        summary: content of summary.json.
        columns: of thermo.csv, name to the latest values, the newest last.
        silence: s since the last row; None before the first.
    """

    summary: MDSummary
    columns: dict[str, list[float]]
    silence: float | None

    @property
    def ended(self) -> bool:
        """Whether the run ended by itself and recorded that."""
        return self.summary.ended

    @property
    def step(self) -> int:
        """The newest known step."""
        rows = self.columns.get("step", [])
        return max(int(rows[-1]) if rows else 0, self.summary.steps_done)


def read_progress(directory: Path) -> LiveView:
    """Read the newest state of a run; the cost does not depend on its length.

    Raises:
        RunDirectoryError: the directory holds no run.
    """
    summary = MDSummary.read(directory)
    path = directory / THERMO
    columns = read_latest(path)
    rows = columns.get("step", [])
    return LiveView(summary, columns, time.time() - path.stat().st_mtime if rows else None)
