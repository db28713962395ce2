"""Exported potentials as OpenMM forces."""

from typing import TYPE_CHECKING

from piwsl._lazy import attach

if TYPE_CHECKING:
    from piwsl.interfaces.openmm.force import openmm_force
    from piwsl.interfaces.openmm.system_xml import read_system

__all__ = ["openmm_force", "read_system"]

__getattr__, __dir__ = attach(__name__, {"openmm_force": "force", "read_system": "system_xml"})
