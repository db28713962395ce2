"""Labels for given structures, computed one by one, here or on a cluster, each kept as soon as it is finished.

(Labels along reference dynamics: `piwsl.data.label`.)
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from piwsl._version import __version__
from piwsl.data.calculators import reference_calculator
from piwsl.data.convert import convert
from piwsl.data.executors import Executor, LocalProcesses
from piwsl.data.files import sha256, write_text
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.job_directory import PLAN_FILE, is_begun, only_job
from piwsl.data.label_store import LabelStore
from piwsl.data.labelling_plan import LabellingPlan
from piwsl.data.single_point import Failure, SinglePoint, single_point
from piwsl.errors import DataError
from piwsl.provenance import versions

STORE_FILE = "labels.jsonl"
RESULT_FILE = "frames.xyz"
SUMMARY_FILE = "summary.json"
_PROGRAMS = ("ase", "numpy", "tblite", "pyscf")


@dataclass(frozen=True)
class LabelledFrames:
    """What a job gave.

    Attributes:
        file: extended XYZ in eV and angstrom, frames in their order.
        frames: number of structures.
        failures: reason by index of those that have no labels.
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
) -> LabelledFrames:
    """Label (or go on labelling) structures with a reference method.

    A structure whose calculation fails stays without labels, and is tried again when the job is run again.

    Args:
        frames: structures; labels they have are ignored.
        method: see `piwsl.data.calculators.reference_calculator`.
        output: directory of the job. One that holds the same job is continued.
        options: of the calculator, by name.
        where: which processes compute; one of this machine.
        progress: called with (finished structures, all structures).

    Raises:
        ConfigError: the method or an option is not known.
        DataError: not a single structure could be labelled.
        RunDirectoryError: the directory holds another job.
    """
    reference_calculator(method, options)  # what is wrong with it is said before anything is written
    plan = asdict(LabellingPlan.of(frames, method, options))
    begun = is_begun(output, plan, {})
    with only_job(output):
        if not begun:
            write_text(output / PLAN_FILE, json.dumps(plan, indent=1))
        store = LabelStore(output / STORE_FILE)
        started = time.monotonic()
        _compute(frames, plan, store, where or LocalProcesses(), progress)
        if not len(store):
            raise DataError(f"no frame could be labelled; frame 0: {store.failures.get(0, 'no reason is known')}")
        file = output / RESULT_FILE
        convert(FrameSet(_Labelled(frames, store), file), file, force=True)
        write_text(output / SUMMARY_FILE, json.dumps(_summary(plan, frames, store, file, started), indent=1))
    return LabelledFrames(file, len(frames), dict(sorted(store.failures.items())))


def _compute(
    frames: FrameSet,
    plan: Mapping[str, Any],
    store: LabelStore,
    where: Executor,
    progress: Callable[[int, int], None] | None,
) -> None:
    open_indices = [index for index in range(len(frames)) if index not in store]
    tasks = ((plan["method"], plan["options"], _bare(frames[index])) for index in open_indices)
    finished = len(frames) - len(open_indices)
    if progress:
        progress(finished, len(frames))
    for outcome in where.run(single_point, tasks):
        result = outcome.value if outcome.died is None else Failure(outcome.died)
        store.add(open_indices[outcome.index], result)
        finished += 1
        if progress:
            progress(finished, len(frames))


def _bare(frame: Frame) -> Frame:
    no_forces, no_stress = np.full(frame.positions.shape, np.nan), np.full((3, 3), np.nan)
    return replace(frame, energy=np.nan, forces=no_forces, stress=no_stress)


def _summary(
    plan: Mapping[str, Any], frames: FrameSet, store: LabelStore, file: Path, started: float
) -> dict[str, Any]:
    return {
        "plan": plan,
        "source": str(frames.source),
        "labelled": len(store),
        "failures": {str(index): reason for index, reason in sorted(store.failures.items())},
        "result": {"file": file.name, "sha256": sha256(file), "units": "eV, angstrom"},
        "seconds": round(time.monotonic() - started, 1),  # of the last run of the job
        "piwsl_version": __version__,
        "versions": versions(_PROGRAMS),
    }


class _Labelled(Sequence[Frame]):
    """The structures with the labels of a store."""

    def __init__(self, frames: FrameSet, store: LabelStore) -> None:
        self.frames = frames
        self.store = store

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _with_labels(self.frames[index], self.store.labels(index))

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self.frames):
            yield _with_labels(frame, self.store.labels(index))


def _with_labels(frame: Frame, labels: SinglePoint | None) -> Frame:
    if labels is None:
        return _bare(frame)
    stress = np.full((3, 3), np.nan) if labels.stress is None else labels.stress
    return replace(frame, energy=labels.energy, forces=labels.forces, stress=stress)
