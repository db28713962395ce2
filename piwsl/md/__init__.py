"""Molecular dynamics with exported potentials: protocol, engines, stop rules, replicas."""

from typing import TYPE_CHECKING

from piwsl._lazy import attach

if TYPE_CHECKING:
    from piwsl.md.engines.base import Snapshot
    from piwsl.md.protocol import MDProtocol
    from piwsl.md.run import run_md
    from piwsl.md.stop.rule import StopRule, Violation, name_atoms
    from piwsl.trajectories.thermo import Energies

__all__ = ["Energies", "MDProtocol", "Snapshot", "StopRule", "Violation", "name_atoms", "run_md"]

# Imported at first use: torch and the engines take seconds to load.
__getattr__, __dir__ = attach(
    __name__,
    {
        "Energies": "piwsl.trajectories.thermo",
        "MDProtocol": "protocol",
        "Snapshot": "engines.base",
        "StopRule": "stop.rule",
        "Violation": "stop.rule",
        "name_atoms": "stop.rule",
        "run_md": "run",
    },
)
