"""Molecular dynamics with exported potentials: protocol, engines, stop rules, replicas."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piwsl.interfaces.ase import PiwslCalculator
    from piwsl.interfaces.openmm.force import openmm_force
    from piwsl.interfaces.openmm.system_xml import read_system
    from piwsl.md.engines.base import Snapshot
    from piwsl.md.protocol import MDProtocol
    from piwsl.md.run import run_md
    from piwsl.md.stop.rule import StopRule, Violation, name_atoms
    from piwsl.trajectories.thermo import Energies

__all__ = [
    "Energies",
    "MDProtocol",
    "PiwslCalculator",
    "Snapshot",
    "StopRule",
    "Violation",
    "name_atoms",
    "openmm_force",
    "read_system",
    "run_md",
]

# Imported at first use: torch and the engines take seconds to load.
_HOMES = {
    "Energies": "piwsl.trajectories.thermo",
    "MDProtocol": "piwsl.md.protocol",
    "PiwslCalculator": "piwsl.interfaces.ase",
    "Snapshot": "piwsl.md.engines.base",
    "StopRule": "piwsl.md.stop.rule",
    "Violation": "piwsl.md.stop.rule",
    "name_atoms": "piwsl.md.stop.rule",
    "openmm_force": "piwsl.interfaces.openmm.force",
    "read_system": "piwsl.interfaces.openmm.system_xml",
    "run_md": "piwsl.md.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
