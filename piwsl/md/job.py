"""The job of a run: everything that is decided before its first step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from piwsl.md.protocol import MDProtocol
from piwsl.structures.constraints import fixed_atoms

if TYPE_CHECKING:
    from piwsl.md.stop.rules import OwnRule


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run the same run: a restart must agree in everything but the number of steps."""

    protocol: MDProtocol
    model_sha256: str
    structure_sha256: str

    def differences(self, other: "RunIdentity") -> list[str]:
        """List what differs, as ``name: this -> other``."""
        lines = self.protocol.differences(other.protocol)
        for name in ("model", "structure"):
            mine, theirs = getattr(self, f"{name}_sha256"), getattr(other, f"{name}_sha256")
            if mine != theirs:
                lines.append(f"{name}: sha256 {mine[:12]} -> {theirs[:12]}")
        return lines


def structure_sha256(atoms: Atoms) -> str:
    """Return a hash of species, masses, positions, cell and fixed atoms."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.get_masses(), atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    if (fixed := fixed_atoms(atoms)).any():
        digest.update(fixed.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Job:
    """A run with everything decided. It can be sent to another process that sees the same files.

    Attributes:
        structure: Start structure.
        model: Model file as the user named it.
        exported: File that the engine runs.
        identity: What a restart must agree with.
        output: Directory of the run.
        name: Name of the system.
        command: Command line.
        stop_rules: Stop rules of the caller, beside those of the protocol.
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
        """Protocol of the run."""
        return self.identity.protocol

    @property
    def replicas(self) -> Sequence[int]:
        """Numbers of all replicas; a single run has the number 0."""
        return range(self.protocol.replicas or 1)

    def directory(self, replica: int) -> Path:
        """Return the directory of a replica: that of the run where the protocol has no replicas."""
        return replica_directory(self.output, self.protocol, replica)


def replica_directory(output: Path, protocol: MDProtocol, replica: int) -> Path:
    """Return the directory of a replica of a run in ``output``."""
    return output if protocol.replicas is None else output / f"replica-{replica:03d}"
