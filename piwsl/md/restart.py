"""Restart: states written atomically with a checksum, of which the two newest are kept, and where a run continues."""

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
from piwsl.md.job import Job, RunIdentity, replica_directory, structure_sha256
from piwsl.md.protocol import MDProtocol
from piwsl.runs.files import read_checked_npz, write_checked_npz, writing
from piwsl.runs.json_text import json_text
from piwsl.runs.summary import SUMMARY_FILE, MDSummary

_KEPT = 2
_ENGINE = "engine."  # prefix of the engine's arrays


@dataclass(frozen=True)
class RestartState:
    """State of a run, or of a replica, after a step."""

    step: int
    identity: RunIdentity
    engine: EngineState = field(repr=False)
    rules: dict[str, float] = field(default_factory=dict)  # what the stop rules remember
    started: str = ""  # ISO time of the first start
    wall_seconds: float = 0.0  # of all sessions so far


def write_state(directory: Path, state: RestartState) -> Path:
    """Write ``state-STEP.npz``, where STEP counts equilibration, too, and remove all but the two newest.

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
    path = directory / f"state-{state.identity.protocol.equilibration + state.step:09d}.npz"
    with writing(path):
        write_checked_npz(path, arrays)
        for old in state_files(directory)[_KEPT:]:
            old.unlink()
    return path


def state_files(directory: Path) -> list[Path]:
    """Return the state files of a directory, the newest first."""
    return sorted(directory.glob("state-*.npz"), key=lambda path: _place(path.name), reverse=True)


def _place(name: str) -> tuple[int, str]:
    """Return the place of a state file among others; steps above 1e9 have more digits."""
    return len(name), name


def read_state(path: Path) -> RestartState:
    """Read a state file.

    Raises:
        RunDirectoryError: It is damaged.
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
            {name.removeprefix(_ENGINE): array for name, array in arrays.items()},
            {str(name): float(value) for name, value in description["rules"].items()},
            str(description["started"]),
            float(description["wall_seconds"]),
        )
    except Exception as error:  # whatever zipfile, zlib, numpy and json raise for damaged bytes
        raise RunDirectoryError(f"{path}: damaged ({reason_of(error)})") from None
    return state


def newest_states(directories: Mapping[int, Path]) -> tuple[dict[int, RestartState], list[str]]:
    """Read the whole states of the newest step that all directories have.

    Returns:
        The states by the numbers of the directories, and a line for each newer file that is damaged.

    Raises:
        RunDirectoryError: There is no such step.
    """
    whole: dict[str, dict[int, RestartState]] = {}
    damaged: dict[str, list[str]] = {}
    for number, directory in directories.items():
        for path in state_files(directory):
            try:
                whole.setdefault(path.name, {})[number] = read_state(path)
            except RunDirectoryError as error:
                damaged.setdefault(path.name, []).append(str(error))
    common = [name for name, states in whole.items() if len(states) == len(directories)]
    if not common:
        cause = f"; {next(iter(damaged.values()))[0]}" if damaged else ""
        directory = next(iter(directories.values()))
        raise RunDirectoryError(f"{directory}: no state to restart from{cause}: start anew with force=True")
    newest = max(common, key=_place)
    later = [lines for name, lines in damaged.items() if _place(name) > _place(newest)]
    return whole[newest], [line for lines in later for line in lines]


@dataclass(frozen=True, eq=False)
class Continuation:
    """Where a run continues.

    Attributes:
        structure: Start structure of the run.
        identity: Identity of the run, with the requested number of steps.
        states: States of one step, by the numbers of the replicas that remain.
        damaged: A line for each newer state file that cannot be read.
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
    """Return the newest whole states of the same run at a step that all its replicas have.

    Args:
        output: Directory of the run.
        identity: Identity of the run that is to continue.
        distributed: Replicas are moved by several processes, each with steps of its own: the state of one suffices.

    Raises:
        RunDirectoryError: There are none, or they belong to another run, or stop rules ended it.
        ConfigError: The run already has more steps than requested.
    """
    numbers = range(identity.protocol.replicas or 1)
    directories = {number: replica_directory(output, identity.protocol, number) for number in numbers}
    if distributed:
        started = [number for number, directory in directories.items() if state_files(directory)]
        directories = {number: directories[number] for number in started or [0]}
    elif any(map(state_files, directories.values())) and not _in_step(directories.values()):
        raise RunDirectoryError(
            f"{output}: its replicas have no states of one step, as those of several tasks need not: "
            "continue on a Dask cluster with dask_workers=N or scheduler=ADDRESS"
        )
    summaries = {number: MDSummary.read(directory) for number, directory in directories.items()}
    remaining = [number for number in directories if summaries[number].result != "stopped"]
    if not remaining:
        stop = next(iter(summaries.values())).stop
        message = f" ({stop.message})" if stop else ""
        raise RunDirectoryError(f"{output}: was stopped{message}: it cannot be continued")
    if distributed:
        remaining = remaining[:1]
    states, damaged = newest_states({number: directories[number] for number in remaining})
    first = next(iter(states.values()))
    structure = files.read_start(output)
    if identity.structure_sha256 == structure_sha256(structure):  # which is a minimized one where that was requested
        identity = replace(identity, structure_sha256=first.identity.structure_sha256)
    changed = first.identity.differences(identity)
    if changed:
        raise RunDirectoryError(f"{output}: a restart continues the same run, but changed are {'; '.join(changed)}")
    if identity.protocol.steps < first.step:
        raise ConfigError(f"steps is {identity.protocol.steps}, but {output} already has {first.step}: it is the total")
    states = {number: replace(state, identity=identity) for number, state in states.items()}
    return Continuation(structure, identity, states, tuple(damaged))


def _in_step(directories: Iterable[Path]) -> bool:
    """Whether the replicas that remain have started, and have states of one step, whole or not."""
    names = []
    for directory in directories:
        if not (directory / SUMMARY_FILE).is_file():
            return False
        if MDSummary.read(directory).result != "stopped":
            names.append({path.name for path in state_files(directory)})
    return not names or bool(set.intersection(*names))


def resume_chunk(job: Job, replicas: Sequence[int]) -> Continuation | None:
    """Return where replicas continue whose worker ended.

    Returns:
        None where they never started; without states where none of them remains.
    """
    directories = {number: job.directory(number) for number in replicas}
    if not all((directory / SUMMARY_FILE).is_file() for directory in directories.values()):
        return None
    remaining = [number for number in replicas if MDSummary.read(directories[number]).result != "stopped"]
    if not remaining:
        return Continuation(job.structure, job.identity)
    try:
        states, damaged = newest_states({number: directories[number] for number in remaining})
    except RunDirectoryError:
        return None
    states = {number: replace(state, identity=job.identity) for number, state in states.items()}
    return Continuation(job.structure, job.identity, states, tuple(damaged))
