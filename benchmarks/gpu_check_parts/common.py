"""Structures, models and clocks that the parts of gpu_check.py share."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from ase import Atoms
from md_scaling import oxide

from gpu_check_parts.report import Settings
from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.exporter import Exporter

__all__ = ["Settings", "aspirin", "exported", "frame", "milliseconds", "oxide", "peak_memory", "synchronize"]


def aspirin() -> Atoms:
    """Return the bundled aspirin."""
    atoms: Atoms = named_system("aspirin").structure.copy()
    return atoms


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(function: Callable[[], object], device: str, seconds: float, warm_up: int = 3) -> float:
    """Return the median time of a call, each of which is waited for."""
    for _ in range(warm_up):
        function()
    synchronize(device)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 5000):
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def peak_memory(device: str) -> float:
    """Return the largest memory of tensors on the GPU since the last call, or of this process so far, MB."""
    if device == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return used
    from step_server import peak_memory as of_process

    return of_process()


def exported(settings: Settings, name: str, make: Callable[[Exporter, Path], object], model: Path, device: str) -> Path:
    """Return an exported file in the shared folder, which the first call makes."""
    path = settings.folder / name
    if not path.exists():
        make(Exporter([model], device=device), path)
    return path


def frame(atoms: Atoms) -> Frame:
    """Return atoms as a frame."""
    return Frame.from_atoms(atoms)
