"""Probes of OpenMM on this machine: platforms, TorchForce and PythonForce, each in a small Context."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch
from torch import Tensor, nn

from piwsl.compat.openmm import plain_value, state_positions
from piwsl.errors import MissingDependencyError, reason_of

# Names under which openmm-torch is distributed.
OPENMMTORCH_DISTRIBUTIONS = (*(f"acellera-openmmtorch-{device}" for device in ("cpu", "cu12", "cu13")), "openmmtorch")
_SPRING = 100.0  # kJ/mol/nm^2


@dataclass(frozen=True)
class Probe:
    """Result of a probe: whether it works, and a line about it."""

    works: bool
    reason: str


class _Spring(nn.Module):
    """Harmonic energy and forces, in the form of the target ``openmm``."""

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return 50.0 * (positions * positions).sum(), -100.0 * positions


def import_openmm() -> ModuleType:
    """Import openmm.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return import_module("openmm")
    except ImportError:
        raise MissingDependencyError("openmm", "the OpenMM engine", "openmm") from None


def import_openmmtorch() -> ModuleType:
    """Import openmmtorch, which registers TorchForce with OpenMM; raises ImportError."""
    with _without_simtk_warning():
        return import_module("openmmtorch")


@cache
def probe_torchforce(platform: str = "Reference") -> Probe:
    """Try TorchForce on a platform with two harmonic atoms, once per process."""
    openmm = import_openmm()
    try:
        openmmtorch = import_openmmtorch()
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openmmtorch":
            return Probe(False, "openmm-torch is not installed")
        return Probe(False, f"{_openmmtorch_and_torch()} are not compatible: {reason_of(error)}")
    try:
        force = openmmtorch.TorchForce(_script_spring())
        force.setOutputsForces(True)
        measured = _try_force(openmm, force, platform)
    except Exception as error:  # a plugin built for another torch raises many kinds
        return Probe(False, f"TorchForce fails on {platform} with {_openmmtorch_and_torch()}: {reason_of(error)}")
    return _judge(measured, "TorchForce", platform)


@cache
def probe_pythonforce(platform: str = "Reference") -> Probe:
    """Try PythonForce on a platform with two harmonic atoms, once per process."""
    openmm = import_openmm()
    if not hasattr(openmm, "PythonForce"):
        return Probe(False, f"OpenMM {openmm.version.version} has no PythonForce: 8.6.1 or newer is needed")
    try:
        measured = _try_force(openmm, openmm.PythonForce(_spring_in_python), platform)
    except Exception as error:
        return Probe(False, f"PythonForce fails on {platform}: {reason_of(error)}")
    return _judge(measured, "PythonForce", platform)


def probe_platform(platform: str) -> Probe:
    """Try a platform with two atoms and a harmonic force of OpenMM."""
    openmm = import_openmm()
    force = openmm.CustomExternalForce(f"{_SPRING / 2}*(x^2+y^2+z^2)")
    force.addParticle(0)
    force.addParticle(1)
    try:
        measured = _try_force(openmm, force, platform)
    except Exception as error:
        return Probe(False, reason_of(error))
    return _judge(measured, "a Context", platform)


def _openmmtorch_and_torch() -> str:
    """Return both names with their versions; a build of openmm-torch supports certain versions of torch."""
    for name in OPENMMTORCH_DISTRIBUTIONS:
        try:
            return f"openmm-torch {version(name)} and torch {torch.__version__}"
        except PackageNotFoundError:
            continue
    return f"openmm-torch and torch {torch.__version__}"


def _try_force(openmm: ModuleType, force: object, platform: str) -> float:
    """Return the force along x on an atom at 0.1 nm, kJ/mol/nm, after one step."""
    system = openmm.System()
    for _ in range(2):
        system.addParticle(12.0)
    system.addForce(force)
    integrator = openmm.VerletIntegrator(1e-6)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions([openmm.Vec3(0.1, 0, 0), openmm.Vec3(0, 0.2, 0)])
    integrator.step(1)
    return float(plain_value(context.getState(forces=True).getForces(asNumpy=True))[0, 0])


def _judge(measured: float, what: str, platform: str) -> Probe:
    expected = -_SPRING * 0.1
    if abs(measured - expected) > 1e-3:
        return Probe(False, f"{what} gives a wrong force on {platform} ({measured:g} for {expected:g} kJ/mol/nm)")
    return Probe(True, f"tried on {platform}, works")


def _script_spring() -> torch.jit.ScriptModule:
    scripted = torch.jit.script(_Spring())
    assert isinstance(scripted, torch.jit.ScriptModule)
    return scripted


def _spring_in_python(state: object) -> tuple[float, object]:
    positions = state_positions(state)
    return float(_SPRING / 2 * (positions**2).sum()), -_SPRING * positions


@contextmanager
def _without_simtk_warning() -> Iterator[None]:
    """Suppress a warning on the root logger: openmmtorch imports OpenMM by an old name, which a user cannot change."""

    def keep(record: logging.LogRecord) -> bool:
        return "simtk.openmm" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
