"""Every network without export: energies, forces and second derivatives on the device, beside the CPU in float64.

In float32, the tolerance contains the difference between float32 and float64 on the CPU, as in the verification of
exports.
"""

import copy
from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

from gpu_check_parts.common import Settings, aspirin, frame, milliseconds, oxide, synchronize
from gpu_check_parts.report import Report
from piwsl.data.batch import Batch, collate
from piwsl.models import ModelConfig, Potential, build_potential, registered_networks

ELEMENTS = {1: -13.6, 6: -1030.0, 8: -2042.0, 22: -1600.0}
WHAT = ("energy", "forces", "second derivatives")
RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4}


def variants(small: bool) -> list[tuple[str, str]]:
    """Return the networks and their kinds of forces."""
    if small:
        return [("painn", "conservative")]
    direct = [(name, "direct") for name in ("painn", "escn", "equiformer_v2", "spinconv")]
    return [*((name, "conservative") for name in registered_networks()), *direct]


def built(name: str, forces: str) -> Potential:
    """Return a small network with random weights."""
    torch.manual_seed(0)
    size: dict[str, object] = {"elements": tuple(ELEMENTS)} if name == "mace" else {"layers": 2}
    config = ModelConfig.model_validate({"network": name, "forces": forces, "channels": 16, "cutoff": 4.5, **size})
    return build_potential(config, ELEMENTS)


def results(potential: Potential, batch: Batch) -> tuple[Tensor, ...]:
    """Return energies, forces, and the gradient of the squared forces with respect to the weights."""
    energies, forces = potential(*batch.graph, create_graph=True)
    weights = list(potential.parameters())
    slopes = torch.autograd.grad(forces.square().sum() + energies.sum(), weights, allow_unused=True)
    joined = torch.cat([slope.flatten() for slope in slopes if slope is not None])
    interaction = energies - energies.detach().round()
    return tuple(value.detach().to("cpu", torch.float64) for value in (interaction, forces, joined))


def differences(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[float]:
    """Return the largest differences; those of derivatives relative to the largest of the second results."""
    found = []
    for name, one, other in zip(WHAT, first, second, strict=True):
        size = 1.0 if name == "energy" else float(other.abs().max().clamp_min(1e-12))
        found.append(float((one - other).abs().max()) / size)
    return found


def structures(small: bool) -> dict[str, Atoms]:
    """Return aspirin and a periodic cell."""
    return {"aspirin": aspirin(), **({} if small else {"cell": oxide(48)})}


def run(report: Report, settings: Settings) -> None:
    for name, forces in variants(settings.small):
        for system, atoms in structures(settings.small).items():
            title = f"{name if forces == 'conservative' else f'{name}, {forces}'}, {system}"
            report.attempt(title, compare, report, settings, title, (name, forces), atoms)


def compare(report: Report, settings: Settings, title: str, kind: tuple[str, str], atoms: Atoms) -> None:
    """Add the differences and times of one network and structure."""
    potential = built(*kind)
    exact = results(of_type(potential, torch.float64), collate([frame(atoms)], 4.5, torch.float64))
    for dtype in (torch.float64, torch.float32):
        model = of_type(potential, dtype)
        batch = collate([frame(atoms)], 4.5, dtype)
        rounding = [0.0] * 3 if dtype == torch.float64 else differences(results(model, batch), exact)
        there, batch = model.to(settings.device), batch.to(settings.device)
        found = differences(results(there, batch), exact)
        for what, difference, rounded in zip(WHAT, found, rounding, strict=True):
            tolerance = RELATIVE[dtype] + 3.0 * rounded
            if what == "energy":
                tolerance *= len(atoms)
            unit, width = "eV" if what == "energy" else "", str(dtype).removeprefix("torch.")
            report.check(f"{title}, {width}, {what}", difference, tolerance, unit)
    synchronize(settings.device)
    there, batch = of_type(potential, torch.float32).to(settings.device), collate([frame(atoms)], 4.5)
    on_device = batch.to(settings.device)
    time = milliseconds(lambda: there(*on_device.graph), settings.device, 0.02 if settings.small else 0.1)
    report.measure(f"{title}, energy and forces", ms=time, edges=float(batch.edges.shape[1]))


def of_type(potential: Potential, dtype: torch.dtype) -> Potential:
    """Return a copy whose network has a float type."""
    made = copy.deepcopy(potential)
    made.network.to(dtype)
    return made
