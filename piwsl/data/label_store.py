"""Labels of a running job: one line of JSON a structure, added as it is finished.

A line that a kill left half written is cut off when the file is opened again; whole lines are never lost.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.data.single_point import Failure, SinglePoint
from piwsl.errors import DataError


class LabelStore:
    """What is finished of a job.

    Attributes:
        failures: reason by index of the structures whose newest try failed.

    Args:
        path: the file; made when the first line is added.

    Raises:
        DataError: a line other than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures: dict[int, str] = {}
        self._places: dict[int, int] = {}  # offset of the line that holds the labels
        self._end = 0
        if path.exists():
            self._read()

    def __contains__(self, index: int) -> bool:
        return index in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, index: int, result: SinglePoint | Failure) -> None:
        """Keep what came out for a structure."""
        entry: dict[str, Any] = {"index": index}
        if isinstance(result, Failure):
            entry["failure"] = result.reason
        else:
            entry |= {"energy": result.energy, "forces": result.forces.tolist()}
            if result.stress is not None:
                entry["stress"] = result.stress.tolist()
        line = json.dumps(entry).encode() + b"\n"
        with self.path.open("ab") as stream:
            stream.write(line)
        self._note(entry, self._end)
        self._end += len(line)

    def labels(self, index: int) -> SinglePoint | None:
        """Labels of a structure, bit for bit; None where it has none."""
        if index not in self._places:
            return None
        with self.path.open("rb") as stream:
            stream.seek(self._places[index])
            entry = json.loads(stream.readline())
        stress = np.array(entry["stress"]) if "stress" in entry else None
        return SinglePoint(entry["energy"], np.array(entry["forces"]), stress)

    def _read(self) -> None:
        with self.path.open("r+b") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    stream.truncate(self._end)  # the job was killed while it wrote this
                    return
                try:
                    self._note(json.loads(line), self._end)
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{self.path}: line {number} is damaged: remove it, and run the job again"
                    ) from None
                self._end += len(line)

    def _note(self, entry: dict[str, Any], place: int) -> None:
        index = int(entry["index"])
        if "failure" in entry:
            self.failures[index] = str(entry["failure"])
        else:
            self._places[index] = place
            self.failures.pop(index, None)
