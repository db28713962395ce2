"""Engines of many replicas by name."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from ase import Atoms

from piwsl.errors import EngineError
from piwsl.export.evaluation import PBC
from piwsl.export.replicas import bind_replicas
from piwsl.md.engines.native import NativeReplicas
from piwsl.md.engines.replicas import ReplicaEngine
from piwsl.md.forces.threads import replica_threads
from piwsl.md.model import verified
from piwsl.md.protocol import MDProtocol
from piwsl.md.replica_model import copies_per_call
from piwsl.memory import keep_freed_memory

LOGGER = logging.getLogger("piwsl.md")
Kind = Literal["native", "openmm"]


def make_replica_engine(
    model: Path, structure: Atoms, protocol: MDProtocol, seeds: Sequence[int], kind: Kind = "native"
) -> ReplicaEngine:
    """Make an engine for as many replicas of a structure as there are seeds.

    Args:
        model: exported file, best one of `prepare_replica_model`.
        structure: where all replicas start.
        protocol: how to run; its engine is not looked at.
        seeds: of each replica, for example `replica_seeds`.
        kind: the loop in torch, or one System of OpenMM.

    Raises:
        EngineError: the file cannot serve replicas of this structure, or the engine cannot run it.
        ElementError: the file was made for other atoms.
        MissingDependencyError: OpenMM is asked for and not installed.
    """
    if not seeds:
        raise EngineError("no replicas: ask for at least one")
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    potential = verified(model, device)
    pbc: PBC = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
    threads = replica_threads(device)
    if device == "cpu":
        torch.set_num_threads(1)  # threads of its own would wait actively on the processors of the others
    wanted = copies_per_call(len(structure), len(seeds), threads, device)
    if potential.is_molecule and potential.format == "torchscript" and potential.copies == 1 < wanted:
        LOGGER.info(
            f"{model.name} evaluates one copy a call: replicas are faster with the trained model.pt, or with a file of "
            f"--target openmm --copies {wanted}"
        )
    bound = bind_replicas(potential, structure.numbers, pbc, structure.cell.array, threads)
    if kind == "openmm":
        from piwsl.md.engines.openmm_replicas import OpenMMReplicas

        return OpenMMReplicas(bound, structure, protocol, seeds)
    return NativeReplicas(bound, structure, protocol, seeds)
