"""Results of the parts of gpu_check.py: rows that are printed and stored one by one."""

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, SKIPPED, MEASURED = "ok", "skipped", "measured"
FAILED, DIFFERS, CRASHED, TIMED_OUT = "FAILED", "DIFFERS", "CRASHED", "TIMED OUT"
_KEPT_LINES = 25  # of a traceback


class Skip(Exception):
    """Reason why something cannot run on this machine."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        device: Device that is checked, ``cuda`` or ``cpu``.
        small: Whether to run small versions that take a few seconds.
        folder: Folder for files, shared by all parts.
    """

    device: str
    small: bool
    folder: Path

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"


class Report:
    """Rows of one part. Each row is printed and appended to a file, so that a killed process keeps its rows.

    Args:
        file: File with one JSON object a line.
        seconds: Time after which `time_left` is False.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._ended = {str(row["end"]) for row in read_lines(file) if "end" in row}
        self._end = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """Time until the part should end."""
        return self._end - time.monotonic()

    def check(self, name: str, difference: float, tolerance: float, unit: str = "") -> bool:
        """Add a difference with its tolerance. NaN exceeds every tolerance."""
        agrees = difference <= tolerance
        result = OK if agrees else DIFFERS
        values = {"difference": difference, "tolerance": tolerance, "unit": unit}
        self._add(name, result, f"{difference:9.1e} {unit} (at most {tolerance:.0e})", values)
        return agrees

    def measure(self, name: str, **values: float | str) -> None:
        """Add measured values."""
        words = (
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
        )
        self._add(name, MEASURED, ", ".join(words), values)

    def note(self, name: str, text: str) -> None:
        """Add a fact."""
        self._add(name, MEASURED, text, {"text": text})

    def attempt(self, name: str, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function; add a row if it fails, or if a package that it needs is not installed.

        A function that ended or crashed in an earlier process of the part is not called again.
        """
        if name in self._ended:
            return
        if self.seconds_left < 0:
            self._add(name, SKIPPED, "no time left for this part", {"reason": "no time left for this part"})
            return
        self._write({"begin": name})
        try:
            function(*arguments)
        except Exception as error:
            self._failed(name, error)
        self._write({"end": name})

    def _failed(self, name: str, error: Exception) -> None:
        missing = missing_package(error)
        reason = str(error) if isinstance(error, Skip) else f"{missing} is not installed"
        if isinstance(error, Skip) or missing is not None:
            self._add(name, SKIPPED, reason, {"reason": reason})
            return
        lines = "".join(traceback.format_exception(error)).splitlines()[-_KEPT_LINES:]
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        self._add(name, FAILED, f"{type(error).__name__}: {said}"[:200], {"traceback": lines})

    def _add(self, name: str, result: str, words: str, values: dict[str, Any]) -> None:
        mark = "" if result == MEASURED else f"{result:8}"
        print(f"  {name:66} {mark:8} {words}", flush=True)
        self._write({"name": name, "result": result, **{key: _finite(value) for key, value in values.items()}})

    def _write(self, row: dict[str, Any]) -> None:
        append(self._file, row)


def missing_package(error: BaseException | None) -> str | None:
    """Return the name of the package whose absence caused an error, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or str(error)).partition(".")[0]
            return None if name in ("piwsl", "gpu_check_parts") else name
        if type(error).__name__ == "MissingDependencyError":
            return str(error)
        error = error.__cause__
    return None


def append(file: Path, row: dict[str, Any]) -> None:
    """Append a line to a file."""
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file: rows, and the beginnings and ends of attempts."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut when the process died
            continue
    return found


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows in a file."""
    return [line for line in read_lines(file) if "result" in line]


def unfinished(file: Path) -> str | None:
    """Return the name of the last attempt that began and did not end, or None."""
    begun: list[str] = []
    for line in read_lines(file):
        if "begin" in line:
            begun.append(str(line["begin"]))
        elif line.get("end") in begun:
            begun.remove(str(line["end"]))
    return begun[-1] if begun else None


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
