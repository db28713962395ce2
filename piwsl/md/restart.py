"""Restart states: written atomically with a checksum, the two newest kept."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.errors import RunDirectoryError
from piwsl.md.engines.base import EngineState
from piwsl.md.protocol import MDProtocol
from piwsl.runs.files import write_npz, writing

_KEPT = 2
_ENGINE = "engine."  # prefix of the engine's arrays


@dataclass(frozen=True)
class RunIdentity:
    """What a run is about. A restart must agree with it in everything but the number of steps."""

    protocol: MDProtocol
    model_sha256: str
    structure_sha256: str

    def differences(self, other: "RunIdentity") -> list[str]:
        """What differs, in words: ``name: this -> other``."""
        found = self.protocol.differences(other.protocol)
        for name in ("model", "structure"):
            mine, theirs = getattr(self, f"{name}_sha256"), getattr(other, f"{name}_sha256")
            if mine != theirs:
                found.append(f"{name}: sha256 {mine[:12]} -> {theirs[:12]}")
        return found


@dataclass(frozen=True)
class RestartState:
    """Where a run was after a step."""

    step: int
    identity: RunIdentity
    engine: EngineState = field(repr=False)
    rules: dict[str, float] = field(default_factory=dict)  # what the stop rules remember
    started: str = ""  # ISO time of the first start
    wall_seconds: float = 0.0  # of all sessions so far


def structure_sha256(atoms: Atoms) -> str:
    """Hash of species, masses, positions and cell."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.get_masses(), atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_state(directory: Path, state: RestartState) -> Path:
    """Write ``state-STEP.npz``, steps of equilibration included, and remove all but the two newest.

    Raises:
        RunDirectoryError: the disk refuses.
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
    arrays["description"] = np.array(json.dumps(description))
    path = directory / f"state-{state.identity.protocol.equilibration + state.step:09d}.npz"
    with writing(path):
        write_npz(path, **arrays, checksum=np.array(_checksum(arrays)))
        for old in state_files(directory)[_KEPT:]:
            old.unlink()
    return path


def state_files(directory: Path) -> list[Path]:
    """State files, the newest first."""
    return sorted(directory.glob("state-*.npz"), reverse=True)


def read_state(path: Path) -> RestartState:
    """Read a state file.

    Raises:
        RunDirectoryError: it is damaged.
    """
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays.pop("checksum")) != _checksum(arrays):
            raise ValueError("the checksum differs")
        description = json.loads(str(arrays.pop("description")))
        identity = RunIdentity(
            MDProtocol.of(**description["protocol"]), description["model_sha256"], description["structure_sha256"]
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunDirectoryError(f"{path}: damaged ({error})") from None
    engine = {name.removeprefix(_ENGINE): array for name, array in arrays.items()}
    times = description["started"], description["wall_seconds"]
    return RestartState(description["step"], identity, engine, description["rules"], *times)


def newest_states(directories: Mapping[int, Path]) -> tuple[dict[int, RestartState], list[str]]:
    """Whole states of the newest step that all of some directories have, and a line for each newer one with damage.

    Raises:
        RunDirectoryError: there is no such step.
    """
    found: dict[str, dict[int, RestartState]] = {}
    damaged: dict[str, list[str]] = {}
    for number, directory in directories.items():
        for path in state_files(directory):
            try:
                found.setdefault(path.name, {})[number] = read_state(path)
            except RunDirectoryError as error:
                damaged.setdefault(path.name, []).append(str(error))
    common = [name for name, states in found.items() if len(states) == len(directories)]
    if not common:
        reason = f"; {next(iter(damaged.values()))[0]}" if damaged else ""
        directory = next(iter(directories.values()))
        raise RunDirectoryError(f"{directory}: no state to restart from{reason}: run without --restart")
    newest = max(common)
    return found[newest], [line for name, lines in damaged.items() if name > newest for line in lines]


def _checksum(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
