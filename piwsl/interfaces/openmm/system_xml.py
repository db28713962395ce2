"""Reading of serialized OpenMM Systems that contain a TorchForce.

``XmlSerializer.deserialize`` crashes the process on such a System if openmm-torch was built for another version of
OpenMM (seen with openmm-torch 1.10 and OpenMM 8.6). This module removes the TorchForces from the text and creates them
again from the TorchScript modules inside the text.
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

from piwsl.errors import DataError, EngineError, reason_of
from piwsl.interfaces.openmm.probe import import_openmm, import_openmmtorch
from piwsl.runs.scratch import scratch_directory


def read_system(text: str) -> Any:
    """Return the ``openmm.System`` from the output of ``XmlSerializer.serialize``, with the TorchForces last.

    Raises:
        DataError: The text is not a serialized System.
        EngineError: The System contains a TorchForce, and openmm-torch cannot be imported.
    """
    openmm = import_openmm()
    try:
        root = ElementTree.fromstring(text)
        forces = root.find("Forces")
        entries = [] if forces is None else [entry for entry in forces if entry.get("type") == "TorchForce"]
        for entry in entries:
            assert forces is not None
            forces.remove(entry)
        system = openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))
    except (ElementTree.ParseError, openmm.OpenMMException) as error:
        raise DataError(f"the text is not a serialized OpenMM System ({reason_of(error)})") from None
    if not isinstance(system, openmm.System):
        raise DataError(f"the text is not a serialized OpenMM System but a serialized {type(system).__name__}")
    for entry in entries:
        system.addForce(_torch_force(entry))
    return system


def _torch_force(entry: ElementTree.Element) -> Any:
    """Create a TorchForce from its entry in a serialized System."""
    try:
        openmmtorch = import_openmmtorch()
    except (ImportError, OSError) as error:
        raise EngineError(
            f"the System contains a TorchForce, but openmm-torch cannot be imported: {reason_of(error)}"
        ) from None
    with scratch_directory("openmm") as folder:
        path = folder / "module.pt"
        path.write_bytes(bytes.fromhex(entry.get("encodedFileContents", "")))
        force = openmmtorch.TorchForce(str(path))
    force.setOutputsForces(entry.get("outputsForces") == "1")
    force.setUsesPeriodicBoundaryConditions(entry.get("usesPeriodic") == "1")
    force.setForceGroup(int(entry.get("forceGroup", "0")))
    if entry.get("name"):
        force.setName(entry.get("name"))
    for parameter in entry.iterfind("GlobalParameters/Parameter"):
        force.addGlobalParameter(parameter.get("name"), float(parameter.get("default", "0")))
    for derivative in entry.iterfind("ParameterDerivatives/Parameter"):
        force.addEnergyParameterDerivative(derivative.get("name"))
    for setting in entry.iterfind("Properties/Property"):
        force.setProperty(setting.get("name"), setting.get("value"))
    return force
