"""What a run directory says of a run while it goes."""

import time
from dataclasses import dataclass
from pathlib import Path

from piwsl.md.run_directory import THERMO
from piwsl.runs.summary import MDSummary
from piwsl.trajectories.thermo import read_latest


@dataclass(frozen=True)
class LiveView:
    """State of a run.

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
        """Whether the run has ended by itself, and said so."""
        return self.summary.ended

    @property
    def step(self) -> int:
        """The newest step that is known."""
        rows = self.columns.get("step", [])
        return max(int(rows[-1]) if rows else 0, self.summary.steps_done)


def read_progress(directory: Path) -> LiveView:
    """Read the newest state of a run; costs the same however long it is.

    Raises:
        RunDirectoryError: the directory holds no run.
    """
    summary = MDSummary.read(directory)
    path = directory / THERMO
    columns = read_latest(path)
    rows = columns.get("step", [])
    return LiveView(summary, columns, time.time() - path.stat().st_mtime if rows else None)
