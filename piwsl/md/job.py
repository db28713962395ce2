"""What a run is about, and where it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import RunIdentity

if TYPE_CHECKING:
    from piwsl.md.stop.rules import OwnRule


@dataclass(frozen=True, eq=False)
class Job:
    """A run with everything decided; it can be sent to another process that sees the same files.

    Attributes:
        structure: at the start.
        model: as the user named it.
        exported: the file that is run.
        identity: what a restart must agree with.
        output: directory of the run.
        name: of the system.
        command: the command line.
        stop_rules: stop rules of the caller, beside those of the protocol.
    """

    structure: Atoms
    model: Path
    exported: Path
    identity: RunIdentity
    output: Path
    name: str = "structure"
    command: str = ""
    stop_rules: tuple["OwnRule", ...] = ()

    @property
    def protocol(self) -> MDProtocol:
        """How to run."""
        return self.identity.protocol

    @property
    def replicas(self) -> Sequence[int]:
        """Numbers of all replicas; a single run has number 0."""
        return range(self.protocol.replicas or 1)

    def directory(self, replica: int) -> Path:
        """Where a replica writes: a directory of its own, or that of the run where there are no others."""
        return replica_directory(self.output, self.protocol, replica)


def replica_directory(output: Path, protocol: MDProtocol, replica: int) -> Path:
    """Directory of a replica of a run in ``output``."""
    return output if protocol.replicas is None else output / f"replica-{replica:03d}"
