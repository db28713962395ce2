"""The complete description of a run before its first step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from piwsl.data.charges import charge_of
from piwsl.md.protocol import MDProtocol
from piwsl.structures.constraints import fixed_atoms

if TYPE_CHECKING:
    from piwsl.md.stop.rules import OwnRule


@dataclass(frozen=True)
class RunIdentity:
    """Protocol, model and structure of a run; a restart must match all of them except for the number of steps."""

    protocol: MDProtocol
    model_sha256: str
    structure_sha256: str

    def differences(self, other: "RunIdentity") -> list[str]:
        """List the differences from another run, as ``name: this -> other``."""
        lines = self.protocol.differences(other.protocol)
        for name in ("model", "structure"):
            mine, theirs = getattr(self, f"{name}_sha256"), getattr(other, f"{name}_sha256")
            if mine != theirs:
                lines.append(f"{name}: sha256 {mine[:12]} -> {theirs[:12]}")
        return lines


def structure_sha256(atoms: Atoms) -> str:
    """Return the SHA-256 of species, masses, positions, cell, fixed atoms, charge and spin, hexadecimal."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.get_masses(), atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    if (fixed := fixed_atoms(atoms)).any():
        digest.update(fixed.tobytes())
    if (stated := charge_of(atoms)).is_stated:
        digest.update(str(stated).encode())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Job:
    """Complete description of a run. A job can be sent to another process that has access to the same files.

    Attributes:
        structure: Start structure.
        model: Model file as the user named it.
        exported: File that the engine runs.
        identity: Protocol, model and structure that a restart must match.
        output: Run directory.
        name: Name of the system.
        command: Command line that started the run.
        stop_rules: Stop rules supplied by the caller, in addition to the stop rules of the protocol.
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
        """Return the directory of a replica, or the run directory if the protocol has no replicas."""
        return replica_directory(self.output, self.protocol, replica)


def replica_directory(output: Path, protocol: MDProtocol, replica: int) -> Path:
    """Return the directory of a replica of the run in ``output``."""
    return output if protocol.replicas is None else output / f"replica-{replica:03d}"
