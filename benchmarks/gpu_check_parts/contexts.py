"""Exported files inside OpenMM beside the eager model on the CPU, at the start and after some steps.

A CUDA graph that is replayed with old inputs would agree at the start only.
"""

from dataclasses import replace

import numpy as np

from gpu_check_parts.common import Settings, frame
from gpu_check_parts.forms import ENERGY, Case, cell, molecule
from gpu_check_parts.openmm_runs import context, state
from gpu_check_parts.report import Report
from piwsl.export.exporter import Format
from piwsl.interfaces.openmm.force import Kind

FORCE = 1e-3  # of the largest force; piwsl's own engine accepts no more
KINDS: tuple[Kind, ...] = ("torch", "python")


def run(report: Report, settings: Settings) -> None:
    platforms = ("CUDA", "Reference") if settings.gpu else ("Reference",)
    for name in ("aspirin",) if settings.small else ("aspirin", "cell"):
        for platform in platforms:
            for kind in KINDS:
                title = f"{name}, {kind.title()}Force on {platform}"
                report.attempt(title, in_openmm, report, settings, title, name, "torchscript", kind, platform)
    if settings.gpu:
        title = "aspirin, TorchForce on CUDA, CUDA graphs"
        report.attempt(title, in_openmm, report, settings, title, "aspirin", "torchscript", "torch", "CUDA", True)


def in_openmm(
    report: Report,
    settings: Settings,
    title: str,
    name: str,
    form: Format,
    kind: Kind,
    platform: str,
    graphs: bool = False,
) -> None:
    """Add the differences of energy and forces."""
    case: Case = molecule() if name == "aspirin" else cell(settings)
    reference = case.reference()
    file = case.file(settings, "openmm", form, "cpu" if form == "torchscript" else settings.device)
    made, integrator = context(case.atoms, file, kind, platform, settings.device, graphs)
    for steps in (0, 1, 50):
        integrator.step(steps)
        positions, energy, forces = state(made)
        expected = reference(replace(frame(case.atoms), positions=positions))
        largest = max(1.0, float(np.abs(expected.forces).max()))
        difference = float(np.abs(forces - expected.forces).max()) / largest
        report.check(f"{title}, {steps} steps, forces", difference, FORCE)
        apart = abs(energy - expected.energy) / len(case.atoms)
        report.check(f"{title}, {steps} steps, energy", apart, 10 * ENERGY, "eV/atom")
