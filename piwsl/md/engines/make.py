"""Creation of the engine that a protocol selects."""

from collections.abc import Mapping
from pathlib import Path

import torch
from ase import Atoms

from piwsl.data.charges import charge_of
from piwsl.md.engines.base import Engine, ReplicaEngine, SingleReplica, Snapshot
from piwsl.md.protocol import MDProtocol
from piwsl.structures.cells import periodic_directions

Starts = Mapping[int, Snapshot]


def make_engine(model: Path, structure: Atoms, protocol: MDProtocol, starts: Starts, step: int = 0) -> ReplicaEngine:
    """Create the engine for the phase of a run that begins at a step.

    Args:
        model: Exported file.
        structure: Structure with species, masses and periodic directions.
        protocol: Protocol of the run.
        starts: Initial positions and velocities of each replica, by replica number; a single run has only number 0.
        step: First step of the phase.

    Raises:
        EngineError: The engine does not support the structure or the protocol.
        ElementError: The file was exported for other atoms.
        MissingDependencyError: OpenMM is not installed.
    """
    if protocol.replicas is not None:
        return _replicas(model, structure, protocol, starts, step)
    start = starts[0]
    atoms = structure.copy()
    atoms.positions = start.positions
    if start.cell is not None:
        atoms.set_cell(start.cell)
    engine = _single(model, atoms, protocol, step)
    engine.start(start.velocities)
    return SingleReplica(engine)


def _single(model: Path, structure: Atoms, protocol: MDProtocol, step: int) -> Engine:
    """Create the engine for a single structure."""
    if protocol.engine == "ase":
        from piwsl.md.engines.ase import ASEEngine

        return ASEEngine(model, structure, protocol, step)
    from piwsl.md.engines.openmm import OpenMMEngine

    return OpenMMEngine(model, structure, protocol, step)


def _replicas(model: Path, structure: Atoms, protocol: MDProtocol, starts: Starts, step: int) -> ReplicaEngine:
    """Create the engine for replicas. For the arguments, see `make_engine`."""
    from piwsl.export.loading import load_verified
    from piwsl.export.replica_evaluation import bind_replicas
    from piwsl.runs.process_settings import replica_threads

    device = "cuda" if torch.cuda.is_available() else "cpu"
    potential = load_verified(model, device)
    threads = replica_threads(device)
    if device == "cpu":
        torch.set_num_threads(1)  # more torch threads would busy-wait on the cores of the other calls
    pbc, stated = periodic_directions(structure), charge_of(structure)
    bound = bind_replicas(potential, structure.numbers, pbc, structure.cell.array, threads, stated)
    if protocol.engine == "openmm":
        from piwsl.md.engines.openmm_replicas import OpenMMReplicas

        return OpenMMReplicas(bound, structure, protocol, starts, step)
    from piwsl.md.engines.native import NativeReplicas

    return NativeReplicas(bound, structure, protocol, starts, step)
