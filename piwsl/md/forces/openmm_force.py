"""An exported potential as an OpenMM force: TorchForce where it works, else PythonForce."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from piwsl.errors import EngineError
from piwsl.export.exported import ExportedPotential, load_exported
from piwsl.md.forces.evaluator import Evaluator
from piwsl.md.forces.probe import import_openmm, import_openmmtorch, probe_pythonforce, probe_torchforce
from piwsl.typing import FloatArray, IntArray
from piwsl.units import KJ_PER_MOL, NANOMETER


@dataclass(frozen=True)
class OpenMMForce:
    """A force ready for ``System.addForce``, which kind it is, and why, in words."""

    force: Any
    kind: str
    reason: str


def openmm_force(path: Path, species: IntArray, platform: str = "Reference") -> OpenMMForce:
    """The fastest force that works here for an exported file.

    A new one is needed for every System, which owns its forces.

    Args:
        path: exported potential. The ``general`` form runs through PythonForce only.
        species: atomic numbers (n,) of the System's particles.
        platform: the OpenMM platform that will run it.

    Raises:
        EngineError: neither kind works on this machine.
    """
    potential = load_exported(path)
    Evaluator(potential).check(species, periodic=False)
    if potential.form == "openmm":
        probe = probe_torchforce(platform)
        if probe.works:
            return OpenMMForce(torch_force(path), "TorchForce", probe.reason)
        reason = probe.reason
    else:
        reason = f"{path.name} is the general form; TorchForce takes the form of `piwsl export --target openmm`"
    fallback = probe_pythonforce(platform)
    if not fallback.works:
        raise EngineError(f"no force works in OpenMM here: {reason}; {fallback.reason}; `piwsl doctor` says more")
    return OpenMMForce(python_force(path, species, platform), "PythonForce", reason)


def torch_force(path: Path) -> Any:
    """TorchForce of an ``openmm`` form. It calls the module from C++."""
    force = import_openmmtorch().TorchForce(load_exported(path).module)
    force.setOutputsForces(True)
    return force


def python_force(path: Path, species: IntArray, platform: str = "Reference") -> Any:
    """PythonForce of either form: the same module called through Python, about 0.1 ms a step slower."""
    device = "cuda" if platform == "CUDA" and torch.cuda.is_available() else "cpu"
    return import_openmm().PythonForce(ForceCallable(load_exported(path, device), species, device))


class ForceCallable:
    """What PythonForce calls: an OpenMM state to energy (kJ/mol) and forces (kJ/mol/nm).

    It can be pickled, as serialising a System does: the module travels as the bytes of ``torch.jit.save``.
    """

    def __init__(self, potential: ExportedPotential, species: IntArray, device: str = "cpu") -> None:
        self._evaluate = Evaluator(potential, device)
        self._species = species

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Energy and forces (n, 3) at the positions of a state."""
        positions = state.getPositions(asNumpy=True)._value
        energy, forces = self._evaluate(self._species, positions * NANOMETER)
        return energy / KJ_PER_MOL, forces * (NANOMETER / KJ_PER_MOL)

    def __getstate__(self) -> dict[str, Any]:
        potential = self._evaluate.potential
        buffer = io.BytesIO()
        torch.jit.save(potential.module, buffer)
        return {
            "module": buffer.getvalue(),
            "path": str(potential.path),
            "info": potential.info,
            "species": self._species,
            "device": self._evaluate.device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = state["device"] if torch.cuda.is_available() else "cpu"
        module = torch.jit.load(io.BytesIO(state["module"]), map_location=device)
        self._evaluate = Evaluator(ExportedPotential(Path(state["path"]), module, state["info"]), device)
        self._species = state["species"]
