"""Where an earlier run is taken up again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.md import run_directory as files
from piwsl.md.job import replica_directory
from piwsl.md.restart import RestartState, RunIdentity, newest_states, structure_sha256


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


def find_continuation(output: Path, identity: RunIdentity, replicas: Sequence[int]) -> Continuation:
    """The newest whole states of the same run at a step that all its replicas have.

    Raises:
        RunDirectoryError: there are none, or they are of another run, or stop rules have ended it.
        ConfigError: it already has more steps than it shall get.
    """
    directories = {number: replica_directory(output, identity.protocol, number) for number in replicas}
    summaries = {number: files.read_summary(directory) for number, directory in directories.items()}
    left = [number for number in replicas if summaries[number]["result"] != "stopped"]
    if not left:
        message = summaries[replicas[0]]["stop"]["message"]
        raise RunDirectoryError(f"{output}: was stopped ({message}): it cannot be continued")
    states, damaged = newest_states({number: directories[number] for number in left})
    first = next(iter(states.values()))
    if identity.structure_sha256 == structure_sha256(files.read_start(output)):  # which may be a minimised one
        identity = replace(identity, structure_sha256=first.identity.structure_sha256)
    changed = first.identity.differences(identity)
    if changed:
        raise RunDirectoryError(f"{output}: a restart continues the same run, but changed are {'; '.join(changed)}")
    if identity.protocol.steps < first.step:
        raise ConfigError(f"steps is {identity.protocol.steps}, but {output} already has {first.step}: it is the total")
    return Continuation({number: replace(one, identity=identity) for number, one in states.items()}, tuple(damaged))
