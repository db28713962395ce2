"""Time and memory of energies and forces of rutile from 21 to 100 000 atoms: PaiNN with 64 channels, 5 angstrom.

The list with skin is searched on the CPU and reused; every call moves all atoms by about 0.01 angstrom, so that some
calls search again. The search on the device is that of files for OpenMM, which
search in every call.
"""

from pathlib import Path

import numpy as np
import torch
from random_model import random_model

from gpu_check_parts.common import Settings, exported, frame, milliseconds, oxide, peak_memory
from gpu_check_parts.report import Report, Skip
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.neighbors.search import NeighborSearch
from piwsl.structures.neighbors import SkinnedNeighbors

SIZES = (21, 100, 1000, 10_000, 100_000, 300, 3000, 30_000)  # the most informative first


def run(report: Report, settings: Settings) -> None:
    for size in (21,) if settings.small else SIZES:
        report.attempt(f"{size} atoms, list with skin", scripted, report, settings, size)
        report.attempt(f"{size} atoms, neighbor search", search, report, settings, size)
    for size in () if settings.small else (1000, 10_000):
        report.attempt(f"{size} atoms, compiled", compiled, report, settings, size)


def scripted(report: Report, settings: Settings, size: int) -> None:
    """Add the time of a call of a TorchScript file."""
    model = settings.folder / "scaling.pt"
    if not model.exists():
        random_model(model, frame(oxide(6)), channels=16 if settings.small else 64)
    measure(report, settings, exported(settings, "scaling-general.pt", general, model, "cpu"), size)


def compiled(report: Report, settings: Settings, size: int) -> None:
    """Add the time of a call of the file that part compiled makes."""
    file = settings.folder / f"cell-general-{settings.device}.pt2"
    if not file.exists():
        raise Skip("part compiled has made no file")
    measure(report, settings, file, size, "compiled, ")


def general(exporter: Exporter, path: Path) -> None:
    """Export for any structure."""
    exporter.general(path)


def measure(report: Report, settings: Settings, file: Path, size: int, form: str = "") -> None:
    """Add the time of a call."""
    atoms = oxide(size)
    bound = bind(load_exported(file, settings.device), atoms.numbers, (True, True, True))
    generator, cell = np.random.default_rng(0), np.array(atoms.cell)
    positions = atoms.positions.copy()
    peak_memory(settings.device)

    def step() -> None:
        nonlocal positions
        positions = positions + generator.normal(scale=0.01, size=positions.shape)
        positions += 0.2 * (atoms.positions - positions)
        bound(positions, cell)

    time = milliseconds(step, settings.device, 0.1 if settings.small else 1.0)
    values = {"ms": time, "us_per_atom": 1e3 * time / len(atoms), "memory_mb": peak_memory(settings.device)}
    report.measure(f"{len(atoms)} atoms, {form}list with skin", **values)


def search(report: Report, settings: Settings, size: int) -> None:
    """Add the times of the neighbor searches: on the device, and on the CPU."""
    atoms = oxide(size)
    positions = torch.from_numpy(atoms.positions).to(settings.device)
    cell = torch.from_numpy(np.array(atoms.cell))
    there = NeighborSearch(5.0)
    seconds = 0.05 if settings.small else 0.5
    peak_memory(settings.device)
    on_device = milliseconds(lambda: there(positions, cell, None), settings.device, seconds)
    memory = peak_memory(settings.device)

    def on_cpu() -> None:
        SkinnedNeighbors(5.0, (True, True, True))(atoms.positions, np.array(atoms.cell))

    on_host = milliseconds(on_cpu, "cpu", seconds, warm_up=1)
    values = {"device_ms": on_device, "cpu_ms": on_host, "memory_mb": memory}
    report.measure(f"{len(atoms)} atoms, neighbor search", **values)
