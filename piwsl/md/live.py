"""What a run directory says of a run while it goes."""

import time
from dataclasses import dataclass
from pathlib import Path

from piwsl.md.run_directory import THERMO
from piwsl.runs.summary import MDSummary

_TAIL = 65536  # bytes of thermo.csv that are read


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
    if not path.is_file():
        return LiveView(summary, {}, None)
    with path.open("rb") as file:
        header = file.readline().decode().strip().split(",")
        size = path.stat().st_size
        file.seek(max(file.tell(), size - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")[:-1]
    if size > _TAIL:
        lines = lines[1:]  # cut in the middle
    rows = [[float(cell) for cell in line.split(",")] for line in lines if line.count(",") == len(header) - 1]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    return LiveView(summary, columns, time.time() - path.stat().st_mtime if rows else None)
