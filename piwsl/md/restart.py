"""Restart states, written atomically with a checksum, and the state from which a run continues.

Each replica keeps its two newest states.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.errors import ConfigError, RunDirectoryError, reason_of
from piwsl.md import run_directory as files
from piwsl.md.engines.base import EngineState
from piwsl.md.engines.state_check import check_engine_state
from piwsl.md.job import Job, RunIdentity, replica_directory, structure_sha256
from piwsl.md.protocol import MDProtocol
from piwsl.runs.files import read_checked_npz, write_checked_npz, writing
from piwsl.runs.json_text import json_text
from piwsl.runs.summary import SUMMARY_FILE, MDSummary

_KEPT = 2
_ENGINE = "engine."  # prefix for the arrays of the engine


@dataclass(frozen=True)
class RestartState:
    """State of a run or of a replica after a step."""

    step: int
    identity: RunIdentity
    engine: EngineState = field(repr=False)
    rules: dict[str, float] = field(default_factory=dict)  # state of the stop rules
    started: str = ""  # ISO time of the first start
    wall_seconds: float = 0.0  # total time of all sessions so far, s


def write_state(directory: Path, state: RestartState) -> Path:
    """Write ``state-STEP.npz`` and remove all but the two newest states; STEP includes equilibration.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    description = {
        "step": state.step,
        "rules": state.rules,
        "protocol": state.identity.protocol.model_dump(),
        "model_sha256": state.identity.model_sha256,
        "structure_sha256": state.identity.structure_sha256,
        "started": state.started,
        "wall_seconds": state.wall_seconds,
    }
    arrays: dict[str, Any] = {_ENGINE + name: array for name, array in state.engine.items()}
    arrays["description"] = np.array(json_text(description))
    path = directory / _name(state)
    with writing(path):
        if path.is_dir():  # a directory in this place was skipped when the run continued, and stays for its owner
            path.rename(path.with_name(f"{path.name}.damaged"))
        write_checked_npz(path, arrays)
        for old in [old for old in state_files(directory) if not old.is_dir()][_KEPT:]:
            old.unlink()
    return path


def _name(state: RestartState) -> str:
    return f"state-{state.identity.protocol.equilibration + state.step:09d}.npz"


def state_files(directory: Path) -> list[Path]:
    """Return the state files of a directory, newest first."""
    return sorted(directory.glob("state-*.npz"), key=lambda path: _place(path.name), reverse=True)


def _place(name: str) -> tuple[int, str]:
    """Return the sort key of a state file; the length comes first, because steps above 1e9 have more digits."""
    return len(name), name


def read_state(path: Path, atoms: int | None = None) -> RestartState:
    """Read a state file.

    Args:
        path: File of a state.
        atoms: Number of atoms of the structure; None if it is unknown.

    Raises:
        RunDirectoryError: The file is damaged, or no engine can continue from its content.
    """
    try:
        arrays = read_checked_npz(path)
        description = json.loads(str(arrays.pop("description")))
        identity = RunIdentity(
            MDProtocol.of(**description["protocol"]), description["model_sha256"], description["structure_sha256"]
        )
        state = RestartState(
            int(description["step"]),
            identity,
            {name.removeprefix(_ENGINE): array for name, array in arrays.items() if name.startswith(_ENGINE)},
            {str(name): float(value) for name, value in description["rules"].items()},
            str(description["started"]),
            float(description["wall_seconds"]),
        )
        if _name(state) != path.name:
            raise ValueError(f"it contains step {state.step}")
        if not np.isfinite([state.wall_seconds, *state.rules.values()]).all():
            raise ValueError("its times or the values of its stop rules are not finite")
        check_engine_state(state.engine, identity.protocol, state.step, atoms)
    except Exception as error:  # zipfile, zlib, numpy and json raise many types for damaged bytes
        raise RunDirectoryError(f"{path}: damaged ({reason_of(error)})") from None
    return state


def newest_states(
    directories: Mapping[int, Path], atoms: int | None = None
) -> tuple[dict[int, RestartState], list[str]]:
    """Read the states of the newest step for which all directories contain an intact state.

    Args:
        directories: Directories by number.
        atoms: Number of atoms of the structure; None if it is unknown.

    Returns:
        The states by directory number, and one line for each newer file that is damaged.

    Raises:
        RunDirectoryError: No step has an intact state in all directories.
    """
    whole: dict[str, dict[int, RestartState]] = {}
    damaged: dict[str, list[str]] = {}
    for number, directory in directories.items():
        for path in state_files(directory):
            try:
                whole.setdefault(path.name, {})[number] = read_state(path, atoms)
            except RunDirectoryError as error:
                damaged.setdefault(path.name, []).append(str(error))
    common = [name for name, states in whole.items() if len(states) == len(directories)]
    if not common:
        cause = f"; {next(iter(damaged.values()))[0]}" if damaged else ""
        directory = next(iter(directories.values()))
        raise RunDirectoryError(f"{directory}: no restart state{cause}: start a new run with force=True")
    newest = max(common, key=_place)
    later = [lines for name, lines in damaged.items() if _place(name) > _place(newest)]
    return whole[newest], [line for lines in later for line in lines]


@dataclass(frozen=True, eq=False)
class Continuation:
    """State from which a run continues.

    Attributes:
        structure: Start structure of the run.
        identity: Protocol, model and structure of the run, with the requested number of steps.
        states: States at the same step, by the numbers of the remaining replicas.
        damaged: One line for each newer state file that cannot be read.
    """

    structure: Atoms
    identity: RunIdentity
    states: dict[int, RestartState] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Step of all states."""
        return next(iter(self.states.values())).step


def find_continuation(output: Path, identity: RunIdentity, distributed: bool = False) -> Continuation:
    """Return the newest intact states of a run at a step that all remaining replicas have reached.

    Args:
        output: Run directory.
        identity: Protocol, model and structure of the run to continue.
        distributed: Whether several processes run the replicas. Their steps may differ, so the state of one replica
            is sufficient.

    Raises:
        RunDirectoryError: The directory contains no intact states, the states belong to another run, or stop rules
            ended the run.
        ConfigError: The run already has more steps than requested.
    """
    numbers = range(identity.protocol.replicas or 1)
    directories = {number: replica_directory(output, identity.protocol, number) for number in numbers}
    if distributed:
        started = [number for number, directory in directories.items() if state_files(directory)]
        directories = {number: directories[number] for number in started or [0]}
    elif any(map(state_files, directories.values())) and not _in_step(directories.values()):
        raise RunDirectoryError(
            f"{output}: the replicas have no common step, because several tasks ran them: continue on a Dask cluster "
            "with dask_workers=N or scheduler=ADDRESS"
        )
    summaries = {number: MDSummary.read(directory) for number, directory in directories.items()}
    remaining = [number for number in directories if summaries[number].result != "stopped"]
    if not remaining:
        stop = next(iter(summaries.values())).stop
        message = f" ({stop.message})" if stop else ""
        raise RunDirectoryError(
            f"{output}: stop rules ended the run{message}, which cannot be continued: start a new run with force=True"
        )
    if distributed:
        remaining = remaining[:1]
    structure = files.read_start(output)
    states, damaged = newest_states({number: directories[number] for number in remaining}, len(structure))
    first = next(iter(states.values()))
    if identity.structure_sha256 == structure_sha256(structure):  # the stored structure, minimized if requested
        identity = replace(identity, structure_sha256=first.identity.structure_sha256)
    changed = first.identity.differences(identity)
    if changed:
        raise RunDirectoryError(
            f"{output}: a restart must use the same options and files, but these differ: {'; '.join(changed)}"
        )
    if identity.protocol.steps < first.step:
        raise ConfigError(
            f"steps={identity.protocol.steps} is the total number of steps, but {output} already has {first.step}: "
            "give a larger number"
        )
    states = {number: replace(state, identity=identity) for number, state in states.items()}
    return Continuation(structure, identity, states, tuple(damaged))


def _in_step(directories: Iterable[Path]) -> bool:
    """Return whether all remaining replicas have started and have state files, intact or not, of a common step."""
    names = []
    for directory in directories:
        if not (directory / SUMMARY_FILE).is_file():
            return False
        if MDSummary.read(directory).result != "stopped":
            names.append({path.name for path in state_files(directory)})
    return not names or bool(set.intersection(*names))


def resume_chunk(job: Job, replicas: Sequence[int]) -> Continuation | None:
    """Return the state from which replicas continue after their worker has ended.

    Returns:
        The continuation, without states if no replica remains; None if the replicas must start from the
        beginning.
    """
    directories = {number: job.directory(number) for number in replicas}
    if not all((directory / SUMMARY_FILE).is_file() for directory in directories.values()):
        return None
    remaining = [number for number in replicas if MDSummary.read(directories[number]).result != "stopped"]
    if not remaining:
        return Continuation(job.structure, job.identity)
    try:
        states, damaged = newest_states({number: directories[number] for number in remaining}, len(job.structure))
    except RunDirectoryError:
        return None
    states = {number: replace(state, identity=job.identity) for number, state in states.items()}
    return Continuation(job.structure, job.identity, states, tuple(damaged))
