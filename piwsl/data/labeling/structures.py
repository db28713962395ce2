"""Label given structures one by one, locally or on a cluster, and store each result at once.

(Labels along reference dynamics: `piwsl.data.labeling.dynamics`.)
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, overload
from zlib import crc32

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.labeling.calculators import labels_from, model_hash, reference_calculator
from piwsl.data.labeling.plan import LABELING, PLAN_FILE, is_begun
from piwsl.data.labeling.single_point import Failure, SinglePoint, Spread, single_point
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.runs.directory import RunDirectory
from piwsl.runs.executors import Executor, LocalProcesses
from piwsl.runs.files import sha256, write_text, writing
from piwsl.runs.json_text import json_text
from piwsl.runs.summary import SUMMARY_FILE, RunSummary, now, provenance
from piwsl.runs.untrusted import parse_json


@dataclass(frozen=True)
class LabelingPlan:
    """Method and structures of a labeling job. Equal plans give equal labels.

    Attributes:
        method: Reference method, as in `piwsl.data.labeling.calculators.reference_calculator`.
        options: Calculator options by name.
        frames: Number of structures.
        structures: Hash of all structures in order.
    """

    method: str
    frames: int
    structures: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Iterable[Frame], method: str, options: Mapping[str, Any] | None = None) -> "LabelingPlan":
        """Return the plan for structures. Existing labels are ignored."""
        digest, count = hashlib.sha256(), 0
        for frame in frames:
            digest.update(np.asarray(frame.species, dtype="<i8").tobytes())
            digest.update(np.asarray(frame.positions, dtype="<f8").tobytes())
            digest.update(np.asarray(frame.cell, dtype="<f8").tobytes())
            digest.update(bytes(frame.pbc))
            if frame.states_charge:
                digest.update(str(frame.charge_spin).encode())
            count += 1
        return cls(method, count, digest.hexdigest(), dict(options or {}))


class LabelStore:
    """Results of a labeling job, each stored as soon as it is computed.

    Attributes:
        failures: Reasons for failed structures by index, from the latest attempt.

    Args:
        path: Path of the file; it is created when the first result is added.

    Raises:
        DataError: A line other than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures: dict[int, str] = {}
        self._places: dict[int, int] = {}  # offset of the line with the labels
        self._end = 0
        if path.exists():
            self._read()

    def __contains__(self, index: int) -> bool:
        return index in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, index: int, result: SinglePoint | Failure) -> None:
        """Store the result of a structure."""
        entry: dict[str, Any] = {"index": index}
        if isinstance(result, Failure):
            entry["failure"] = result.reason
        else:
            entry["energy"] = result.energy
            if result.forces is not None:
                entry["forces"] = result.forces.tolist()
            if result.stress is not None:
                entry["stress"] = result.stress.tolist()
            if result.spread is not None:
                entry |= {"energy_spread": result.spread.energy, "force_spread": result.spread.forces.tolist()}
        line = _line_of(entry)
        with writing(self.path), self.path.open("ab") as stream:
            stream.write(line)
        self._note(entry, self._end)
        self._end += len(line)

    def labels(self, index: int) -> SinglePoint | None:
        """Return the labels of a structure, exact to the last bit; None if it has no labels."""
        if index not in self._places:
            return None
        with self.path.open("rb") as stream:
            stream.seek(self._places[index])
            entry = _entry_of(stream.readline())
        stress = np.array(entry["stress"]) if "stress" in entry else None
        spread = Spread(entry["energy_spread"], np.array(entry["force_spread"])) if "force_spread" in entry else None
        forces = np.array(entry["forces"]) if "forces" in entry else None
        return SinglePoint(entry["energy"], forces, stress, spread)

    def _read(self) -> None:
        with self.path.open("r+b") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    stream.truncate(self._end)  # the job was killed while writing this line
                    return
                try:
                    self._note(_entry_of(line), self._end)
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{self.path}: line {number} is damaged: remove the line, and run the job again"
                    ) from None
                self._end += len(line)

    def _note(self, entry: dict[str, Any], place: int) -> None:
        index = int(entry["index"])
        if "failure" in entry:
            self.failures[index] = str(entry["failure"])
        else:
            self._places[index] = place
            self.failures.pop(index, None)


# Labels are expensive, and a wrong digit would not be noticed: each line ends with the checksum of the rest.
_CHECKSUM = b', "crc32": "'


def _line_of(entry: dict[str, Any]) -> bytes:
    text = json_text(entry).encode()
    return text[:-1] + _CHECKSUM + b'%08x"}\n' % crc32(text)


def _entry_of(line: bytes) -> Any:
    """Return the content of a line.

    Raises:
        ValueError: The checksum differs, or the line is not JSON.
    """
    start, _, end = line.rpartition(_CHECKSUM)
    text = start + b"}"
    if end != b'%08x"}\n' % crc32(text):
        raise ValueError("the checksum differs")
    return parse_json(text)


class NothingLabeledError(DataError):
    """No structure of a labeling job has labels.

    Attributes:
        failures: Reasons by the index of the structure.
    """

    def __init__(self, failures: Mapping[int, str]) -> None:
        super().__init__(f"no frame could be labeled: frame 0: {failures.get(0, 'no reason is known')}")
        self.failures = dict(sorted(failures.items()))


STORE_FILE = "labels.jsonl"
RESULT_FILE = "frames.xyz"
_PROGRAMS = ("ase", "numpy", "tblite", "pyscf")


@dataclass(frozen=True)
class LabeledFrames:
    """Result of a labeling job.

    Attributes:
        file: Extended XYZ file in eV and angstrom, with the frames in order.
        frames: Number of structures.
        failures: Reasons for structures without labels, by index.
    """

    file: Path
    frames: int
    failures: Mapping[int, str]


def label_frames(
    frames: FrameSet,
    method: str,
    output: Path,
    options: Mapping[str, Any] | None = None,
    where: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabeledFrames:
    """Label structures with a reference method, or resume an interrupted job.

    A structure whose calculation fails has no labels, and is tried again when the job is run again.

    Args:
        frames: Structures to label. Existing labels are ignored.
        method: Reference method, as in `piwsl.data.labeling.calculators.reference_calculator`.
        output: Directory of the job. If it contains the same job, the job is resumed.
        options: Calculator options by name.
        where: Executor whose processes compute; by default one local process.
        progress: Function called with (finished structures, total structures).

    Raises:
        ConfigError: The method or an option is unknown.
        NothingLabeledError: No structure could be labeled.
        RunDirectoryError: The directory contains another job.
    """
    reference_calculator(method, options)  # report mistakes before writing any file
    plan = {**asdict(LabelingPlan.of(frames, method, options)), **model_hash(method)}
    directory = RunDirectory(output, LABELING)
    begun = is_begun(directory, plan, {})
    directory.create()
    with directory.lock():
        if not (begun or is_begun(directory, plan, {})):  # another process may have begun a job in the meantime
            write_text(output / PLAN_FILE, json_text(plan, indent=1))
        store = LabelStore(output / STORE_FILE)
        started = time.perf_counter()
        _compute(frames, plan, store, where or LocalProcesses(), progress)
        if not len(store):
            raise NothingLabeledError(store.failures)
        file = output / RESULT_FILE
        write_frames(FrameSet(_Labeled(frames, store, labels_from(method)), file), file, force=True)
        _summary(plan, frames, store, file, started).write(output)
    return LabeledFrames(file, len(frames), dict(sorted(store.failures.items())))


def labeled_before(output: Path) -> LabeledFrames | None:
    """Return the result of a labeling job that came to its end; None if there is none."""
    if not (output / SUMMARY_FILE).is_file():
        return None
    summary = LabelingSummary.read(output)
    failures = {int(index): reason for index, reason in summary.failures.items()}
    return LabeledFrames(output / RESULT_FILE, summary.labeled + len(failures), failures)


def _compute(
    frames: FrameSet,
    plan: Mapping[str, Any],
    store: LabelStore,
    where: Executor,
    progress: Callable[[int, int], None] | None,
) -> None:
    open_indices = [index for index in range(len(frames)) if index not in store]
    tasks = ((plan["method"], plan["options"], frames[index].without_labels()) for index in open_indices)
    finished = len(frames) - len(open_indices)
    if progress:
        progress(finished, len(frames))
    for outcome in where.run(single_point, tasks):
        result = outcome.value if outcome.died is None else Failure(outcome.died)
        store.add(open_indices[outcome.index], result)
        finished += 1
        if progress:
            progress(finished, len(frames))


class LabelingSummary(RunSummary):
    """Summary of a labeling job. Times refer to the last session.

    Attributes:
        plan: Plan of the job.
        source: Source of the structures.
        labeled: Number of structures with labels.
        failures: Reasons for structures without labels, by index.
        units: Units of the labeled frames.
        frames_sha256: Hash of the file with the labeled frames.
    """

    job: ClassVar[str] = "a labeling job"

    plan: dict[str, Any]
    source: str
    labeled: int
    failures: dict[str, str]
    units: str = "eV, angstrom"
    frames_sha256: str


def _summary(
    plan: Mapping[str, Any], frames: FrameSet, store: LabelStore, file: Path, started: float
) -> LabelingSummary:
    return LabelingSummary(
        **provenance(_PROGRAMS),
        finished=now(),
        wall_seconds=round(time.perf_counter() - started, 1),
        plan=dict(plan),
        source=str(frames.source),
        labeled=len(store),
        failures={str(index): text for index, text in sorted(store.failures.items())},
        frames_sha256=sha256(file),
        outputs={"frames": file.name, "labels": STORE_FILE, "plan": PLAN_FILE},
        result="completed",
    )


class _Labeled(Sequence[Frame]):
    """Structures with labels from a store, and the foundation model behind them."""

    def __init__(self, frames: FrameSet, store: LabelStore, origin: str) -> None:
        self.frames = frames
        self.store = store
        self.origin = origin

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _with_labels(self.frames[index], self.store.labels(index), self.origin)

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self.frames):
            yield _with_labels(frame, self.store.labels(index), self.origin)


def _with_labels(frame: Frame, labels: SinglePoint | None, origin: str) -> Frame:
    if labels is None:
        return frame.without_labels()
    stress = np.full((3, 3), np.nan) if labels.stress is None else labels.stress
    spread = labels.spread
    return replace(
        frame,
        energy=labels.energy,
        forces=np.full_like(frame.positions, np.nan) if labels.forces is None else labels.forces,
        stress=stress,
        energy_spread=np.nan if spread is None else spread.energy,
        force_spread=None if spread is None else spread.forces,
        labels_from=origin,
    )
