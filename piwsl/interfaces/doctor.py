"""Checks of this machine: versions, devices, and a test of each OpenMM platform and force."""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from piwsl._version import __version__
from piwsl.errors import MissingDependencyError, reason_of
from piwsl.interfaces.openmm.probe import (
    FORCE_PROBES,
    OPENMMTORCH_DISTRIBUTIONS,
    Probe,
    import_openmm,
    probe_platform,
)

_OPENMM = "pip install 'piwsl[openmm]'"
# Name of the library, extra that installs the library (None: a dependency of piwsl), purpose.
_LIBRARIES = (
    ("torch", None, "networks"),
    ("lightning", None, "training"),
    ("ase", None, "structures, second engine"),
    ("mdtraj", None, "trajectories"),
    ("openmm", "openmm", "molecular dynamics"),
    ("openmm-torch", "torchforce-cpu", "TorchForce"),
    ("openmm-ml", "openmm-ml", "MLPotential, mixed systems"),
    ("torch-sim", "torch-sim", "PiwslModel, many structures as one batch"),
    ("tblite", "label", "labeling"),
)
# Libraries whose distributions have different names.
_DISTRIBUTIONS = {
    "openmm-torch": OPENMMTORCH_DISTRIBUTIONS,
    "openmm-ml": ("openmmml",),
    "torch-sim": ("torch-sim-atomistic",),
}
# Libraries that need a newer Python than piwsl.
_PYTHONS = {"torch-sim": (3, 12)}


@dataclass(frozen=True)
class Check:
    """Result of one check, which is one line of the report.

    Attributes:
        group: Group to which the check belongs.
        name: Name of the checked library, device, platform or force.
        works: Whether the check succeeded.
        detail: Version, name of the device, or reason of the failure.
        install: Command that installs a missing library; empty if no command is needed.
    """

    group: str
    name: str
    works: bool
    detail: str
    install: str = ""


def examine(
    version_of: Callable[[str], str] = version,
    probe: Callable[[str], Probe] = probe_platform,
    force_probes: Mapping[str, Callable[[str], Probe]] = FORCE_PROBES,
) -> Iterator[Check]:
    """Run the checks one after another and yield their results: versions, devices, platforms, forces.

    Args:
        version_of: Function that returns the version of a distribution, or raises PackageNotFoundError.
        probe: Test of an OpenMM platform.
        force_probes: Tests of the kinds of force on a platform, by kind.
    """
    yield Check("versions", "piwsl", True, __version__)
    yield Check("versions", "python", True, platform.python_version())
    for library, extra, purpose in _LIBRARIES:
        yield check_library(library, extra, purpose, version_of)
    yield from _devices()
    yield from _openmm(probe, force_probes)


def torchforce_install() -> str:
    """Return the command that installs a suitable TorchForce on this machine."""
    major = (torch.version.cuda or "").partition(".")[0] if torch.cuda.is_available() else ""
    return f"pip install 'piwsl[torchforce-{'cu' + major if major in ('12', '13') else 'cpu'}]'"


def check_library(
    library: str,
    extra: str | None,
    purpose: str,
    version_of: Callable[[str], str] = version,
    python: tuple[int, ...] = sys.version_info[:3],
) -> Check:
    """Check whether a library is installed.

    Args:
        library: Name of the library.
        extra: Extra that installs the library; None for a dependency of piwsl.
        purpose: Purpose of the library.
        version_of: Function that returns the version of a distribution, or raises PackageNotFoundError.
        python: Version of Python.
    """
    for distribution in _DISTRIBUTIONS.get(library, (library,)):
        try:
            return Check("versions", library, True, f"{version_of(distribution)}, for {purpose}")
        except PackageNotFoundError:
            continue
    if python < _PYTHONS.get(library, (3,)):
        needed = ".".join(map(str, _PYTHONS[library]))
        return Check("versions", library, False, f"not installed; for {purpose}; needs Python {needed} or newer")
    install = torchforce_install() if library == "openmm-torch" else f"pip install 'piwsl[{extra}]'"
    return Check("versions", library, False, f"not installed; for {purpose}", install if extra else "pip install piwsl")


def _devices() -> Iterator[Check]:
    yield Check("devices", "CPU", True, f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Check("devices", f"GPU {index}", True, torch.cuda.get_device_name(index))
    else:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for the CPU"
        yield Check("devices", "GPU", False, f"torch cannot use a GPU ({built})")


def _openmm(probe: Callable[[str], Probe], force_probes: Mapping[str, Callable[[str], Probe]]) -> Iterator[Check]:
    try:
        openmm = import_openmm()
    except MissingDependencyError as error:
        yield Check("OpenMM", "OpenMM", False, str(error).partition(":")[0], _OPENMM)
        return
    count = openmm.Platform.getNumPlatforms()
    names = [openmm.Platform.getPlatform(index).getName() for index in range(count)]
    working = []
    for name in names:
        result = _guarded(partial(probe, name))
        working += [name] * result.works
        yield Check("OpenMM", f"platform {name}", result.works, result.reason)
    installs = {"TorchForce": torchforce_install(), "PythonForce": _OPENMM}
    for kind, force_probe in force_probes.items():
        install = installs[kind]
        for name in working:
            result = _guarded(partial(force_probe, name))
            yield Check("forces", f"{kind} on {name}", result.works, result.reason, "" if result.works else install)


def _guarded(probe: "partial[Probe]") -> Probe:
    try:
        return probe()
    except Exception as error:  # one failed check must not end the report
        return Probe(False, reason_of(error))
