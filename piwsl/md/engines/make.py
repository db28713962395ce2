"""Engines by name."""

from pathlib import Path

from ase import Atoms

from piwsl.md.engines.base import Engine
from piwsl.md.protocol import MDProtocol


def make_engine(model: Path, structure: Atoms, protocol: MDProtocol, step: int = 0) -> Engine:
    """Make the engine of the phase of a run that begins at a step, for an exported file.

    Raises:
        EngineError: the engine cannot run it.
        MissingDependencyError: OpenMM is not installed.
    """
    if protocol.engine == "ase":
        from piwsl.md.engines.ase import ASEEngine

        return ASEEngine(model, structure, protocol, step)
    from piwsl.md.engines.openmm import OpenMMEngine

    return OpenMMEngine(model, structure, protocol, step)
