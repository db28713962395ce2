"""Where an earlier run is taken up again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.md import run_directory as files
from piwsl.md.job import Job, replica_directory
from piwsl.md.restart import RestartState, RunIdentity, newest_states, state_files, structure_sha256
from piwsl.runs.summary import SUMMARY_FILE, MDSummary


@dataclass(frozen=True)
class Continuation:
    """States to go on from, all of one step.

    Attributes:
        states: of the replicas that are left, by their numbers.
        damaged: a line for each newer state file that cannot be read.
    """

    states: dict[int, RestartState] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Of all states."""
        return next(iter(self.states.values())).step


def find_continuation(output: Path, identity: RunIdentity, spread: bool = False) -> Continuation:
    """The newest whole states of the same run at a step that all its replicas have.

    Args:
        output: directory of the run.
        identity: of the run that shall go on.
        spread: replicas were moved by several processes, each with steps of its own: the state of one will do.

    Raises:
        RunDirectoryError: there are none, or they are of another run, or stop rules have ended it.
        ConfigError: it already has more steps than it shall get.
    """
    numbers = range(identity.protocol.replicas or 1)
    directories = {number: replica_directory(output, identity.protocol, number) for number in numbers}
    if spread:
        begun = [number for number, directory in directories.items() if state_files(directory)]
        directories = {number: directories[number] for number in begun or [0]}
    elif any(map(state_files, directories.values())) and not _in_step(directories.values()):
        raise RunDirectoryError(
            f"{output}: its replicas have no states of one step, as those of several tasks need not: "
            "continue with --dask-workers or --scheduler"
        )
    summaries = {number: MDSummary.read(directory) for number, directory in directories.items()}
    left = [number for number in directories if summaries[number].result != "stopped"]
    if not left:
        stop = next(iter(summaries.values())).stop
        reason = f" ({stop.message})" if stop else ""
        raise RunDirectoryError(f"{output}: was stopped{reason}: it cannot be continued")
    states, damaged = newest_states({number: directories[number] for number in (left[:1] if spread else left)})
    first = next(iter(states.values()))
    if identity.structure_sha256 == structure_sha256(files.read_start(output)):  # which may be a minimized one
        identity = replace(identity, structure_sha256=first.identity.structure_sha256)
    changed = first.identity.differences(identity)
    if changed:
        raise RunDirectoryError(f"{output}: a restart continues the same run, but changed are {'; '.join(changed)}")
    if identity.protocol.steps < first.step:
        raise ConfigError(f"steps is {identity.protocol.steps}, but {output} already has {first.step}: it is the total")
    return Continuation({number: replace(one, identity=identity) for number, one in states.items()}, tuple(damaged))


def _in_step(directories: Iterable[Path]) -> bool:
    """Whether those that are left have begun, and have states of one step, whole or not."""
    names = []
    for directory in directories:
        if not (directory / SUMMARY_FILE).is_file():
            return False
        if MDSummary.read(directory).result != "stopped":
            names.append({path.name for path in state_files(directory)})
    return not names or bool(set.intersection(*names))


def resume_chunk(job: Job, replicas: Sequence[int]) -> Continuation | None:
    """Where replicas go on whose worker has ended; without states where all have left, None where they never began."""
    directories = {number: job.directory(number) for number in replicas}
    if not all((directory / SUMMARY_FILE).is_file() for directory in directories.values()):
        return None
    left = [number for number in replicas if MDSummary.read(directories[number]).result != "stopped"]
    if not left:
        return Continuation()
    try:
        states, damaged = newest_states({number: directories[number] for number in left})
    except RunDirectoryError:
        return None
    return Continuation({number: replace(one, identity=job.identity) for number, one in states.items()}, tuple(damaged))
