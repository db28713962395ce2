"""Time of a step of Langevin dynamics of aspirin, with PaiNN (128 channels, 3 layers, 5 angstrom) in float32."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from ase import units
from ase.md.langevin import Langevin
from random_model import random_model

from gpu_check_parts.common import Settings, aspirin, exported, frame, milliseconds, peak_memory
from gpu_check_parts.forms import molecule
from gpu_check_parts.openmm_runs import context
from gpu_check_parts.report import Report
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter, Format
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.interfaces.openmm.force import Kind
from piwsl.runs.process_settings import keep_freed_memory

KINDS: tuple[Kind, ...] = ("torch", "python")
STEPS = 5  # between two readings of the clock


def run(report: Report, settings: Settings) -> None:
    keep_freed_memory()
    platforms = ("CUDA", "Reference") if settings.gpu else ("Reference",)
    report.attempt("TorchScript, call", call, report, settings, "TorchScript")
    for platform in platforms:
        for kind in KINDS:
            title = f"TorchScript, {kind.title()}Force on {platform}"
            report.attempt(title, openmm_step, report, settings, title, "TorchScript", kind, platform)
    report.attempt("TorchScript, ASE", ase_step, report, settings, "TorchScript")
    if settings.gpu:
        title = "TorchScript, TorchForce on CUDA, CUDA graphs"
        report.attempt(title, openmm_step, report, settings, title, "TorchScript", "torch", "CUDA", True)
    if not settings.small:
        report.attempt("compiled, call", call, report, settings, "compiled")
        for platform in platforms:
            title = f"compiled, PythonForce on {platform}"
            report.attempt(title, openmm_step, report, settings, title, "compiled", "python", platform)
        report.attempt("compiled, ASE", ase_step, report, settings, "compiled")
    if settings.gpu:
        report.attempt("on the CPU", on_cpu, report, settings)


def file_of(settings: Settings, form: str, device: str) -> Path:
    """Return the exported file of a form."""
    if settings.small:
        return molecule().file(settings, "openmm", "torchscript", device)
    model = settings.folder / "random.pt"
    if not model.exists():
        random_model(model, frame(aspirin()))
    if form == "TorchScript":
        return exported(settings, "step.pt", partial(export, "torchscript"), model, device)
    return exported(settings, "step.pt2", partial(export, "aotinductor"), model, device)


def on_cpu(report: Report, settings: Settings) -> None:
    """Add the time of a step on one core, for comparison."""
    torch.set_num_threads(1)
    made, integrator = context(aspirin(), file_of(settings, "TorchScript", "cpu"), "torch", "Reference", "cpu")
    timed(report, settings, "TorchScript, TorchForce on Reference, one CPU", lambda: integrator.step(STEPS))
    del made


def export(form: Format, exporter: Exporter, path: Path) -> None:
    """Export aspirin for OpenMM."""
    exporter.openmm(frame(aspirin()), path, form)


def timed(report: Report, settings: Settings, title: str, steps: Callable[[], object]) -> None:
    """Add the time of a step, of which a call makes several."""
    time = milliseconds(steps, settings.device, 0.1 if settings.small else 1.0, warm_up=5) / STEPS
    report.measure(title, ms_per_step=time, steps_per_s=1e3 / time, memory_mb=peak_memory(settings.device))


def call(report: Report, settings: Settings, form: str) -> None:
    """Add the time of a call from Python, without an engine."""
    atoms = aspirin()
    bound = bind(load_exported(file_of(settings, form, settings.device), settings.device), atoms.numbers)

    def calls() -> None:
        for _ in range(STEPS):
            bound(atoms.positions)

    timed(report, settings, f"{form}, called from Python", calls)


def openmm_step(
    report: Report, settings: Settings, title: str, form: str, kind: Kind, platform: str, graphs: bool = False
) -> None:
    """Add the time of a step in OpenMM."""
    file = file_of(settings, form, settings.device)
    made, integrator = context(aspirin(), file, kind, platform, settings.device, graphs)
    timed(report, settings, title, lambda: integrator.step(STEPS))
    del made


def ase_step(report: Report, settings: Settings, form: str) -> None:
    """Add the time of a step in ASE."""
    atoms = aspirin()
    atoms.calc = PiwslCalculator(file_of(settings, form, settings.device), device=settings.device)
    dynamics = Langevin(atoms, 0.1 * units.fs, temperature_K=10, friction=0.005 / units.fs, fixcm=False)
    timed(report, settings, f"{form}, ASE", lambda: dynamics.run(STEPS))
