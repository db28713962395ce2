"""Tests of OpenMM on this machine: platforms, TorchForce and PythonForce, each in a small Context."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType, ModuleType

import torch
from torch import Tensor, nn

from piwsl.compat.openmm import plain_value, state_positions
from piwsl.errors import MissingDependencyError, reason_of

# Names of the distributions of openmm-torch.
OPENMMTORCH_DISTRIBUTIONS = (*(f"acellera-openmmtorch-{device}" for device in ("cpu", "cu12", "cu13")), "openmmtorch")
_SPRING = 100.0  # kJ/mol/nm^2


@dataclass(frozen=True)
class Probe:
    """Result of a test.

    Attributes:
        works: Whether the tested platform or force works.
        reason: One-line description of the result.
    """

    works: bool
    reason: str


class _Spring(nn.Module):
    """Harmonic potential with the signature of a file with the target ``openmm``."""

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return 50.0 * (positions * positions).sum(), -100.0 * positions


def import_openmm() -> ModuleType:
    """Import openmm.

    Raises:
        MissingDependencyError: OpenMM is not installed.
    """
    try:
        return import_module("openmm")
    except ImportError:
        raise MissingDependencyError("openmm", "the OpenMM engine", "openmm") from None


def import_openmmtorch() -> ModuleType:
    """Import openmmtorch, which registers TorchForce with OpenMM.

    Raises:
        ImportError: openmm-torch is not installed or cannot be loaded.
    """
    with _without_simtk_warning():
        return import_module("openmmtorch")


@cache
def probe_torchforce(
    platform: str = "Reference", import_plugin: Callable[[], ModuleType] = import_openmmtorch
) -> Probe:
    """Test TorchForce on a platform with two harmonic atoms; the result is cached.

    Args:
        platform: Name of the OpenMM platform.
        import_plugin: Function that imports openmm-torch.
    """
    openmm = import_openmm()
    try:
        openmmtorch = import_plugin()
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openmmtorch":
            return Probe(False, "openmm-torch is not installed")
        return Probe(False, f"{_openmmtorch_and_torch()} are not compatible: {reason_of(error)}")
    try:
        force = openmmtorch.TorchForce(_script_spring())
        force.setOutputsForces(True)
        measured = _try_force(openmm, force, platform)
    except Exception as error:  # a plugin built for another torch raises many types
        return Probe(False, f"TorchForce fails on {platform} with {_openmmtorch_and_torch()}: {reason_of(error)}")
    return _judge(measured, "TorchForce", platform)


@cache
def probe_pythonforce(platform: str = "Reference") -> Probe:
    """Test PythonForce on a platform with two harmonic atoms; the result is cached."""
    openmm = import_openmm()
    if not hasattr(openmm, "PythonForce"):
        return Probe(False, f"OpenMM {openmm.version.version} has no PythonForce: install OpenMM 8.6.1 or newer")
    try:
        measured = _try_force(openmm, openmm.PythonForce(_spring_in_python), platform)
    except Exception as error:
        return Probe(False, f"PythonForce fails on {platform}: {reason_of(error)}")
    return _judge(measured, "PythonForce", platform)


# Tests of the kinds of force by kind, in order of preference.
FORCE_PROBES: Mapping[str, Callable[[str], Probe]] = MappingProxyType(
    {"TorchForce": probe_torchforce, "PythonForce": probe_pythonforce}
)


def probe_platform(platform: str) -> Probe:
    """Test a platform with two atoms and a harmonic force of OpenMM."""
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
    """Return the versions of openmm-torch and torch; a build of openmm-torch supports only some versions of torch."""
    for name in OPENMMTORCH_DISTRIBUTIONS:
        try:
            return f"openmm-torch {version(name)} and torch {torch.__version__}"
        except PackageNotFoundError:
            continue
    return f"openmm-torch and torch {torch.__version__}"


def _try_force(openmm: ModuleType, force: object, platform: str) -> float:
    """Run one step and return the force along x on an atom at 0.1 nm, kJ/mol/nm."""
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
        return Probe(False, f"{what} gives {measured:g} instead of {expected:g} kJ/mol/nm on {platform}")
    return Probe(True, f"works on {platform}")


def _script_spring() -> torch.jit.ScriptModule:
    scripted = torch.jit.script(_Spring())
    assert isinstance(scripted, torch.jit.ScriptModule)
    return scripted


def _spring_in_python(state: object) -> tuple[float, object]:
    positions = state_positions(state)
    return float(_SPRING / 2 * (positions**2).sum()), -_SPRING * positions


@contextmanager
def _without_simtk_warning() -> Iterator[None]:
    """Suppress the warning on the root logger that openmmtorch causes by importing OpenMM under its old name."""

    def keep(record: logging.LogRecord) -> bool:
        return "simtk.openmm" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
