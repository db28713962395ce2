"""Structures per second in training: losses, batch sizes and float types; and the time to make batches on the CPU.

PaiNN with 128 channels on the bundled aspirin. piwsl offers float32, float64 and bf16-mixed; TF32 is a setting of
PyTorch that piwsl leaves as it is, and torch.compile is not a part of piwsl.
"""

import itertools
import time
from contextlib import AbstractContextManager, nullcontext

import torch

from gpu_check_parts.common import Settings, milliseconds, peak_memory
from gpu_check_parts.report import Report
from piwsl.data.batch import Batch, collate
from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import fit_reference_energies
from piwsl.data.systems import named_system
from piwsl.losses import FrameRandom, Objective
from piwsl.models import Potential, build_potential
from piwsl.models.training_loops import training_neighbor_sums, use_in_training
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.objective import build_objective

LOSSES = {
    "energies and forces": [],
    "with PITC": ["loss.pitc=1"],
    "with PITC and PISC": [],
}
PRECISIONS = ("float32", "TF32", "bf16-mixed")


def run(report: Report, settings: Settings) -> None:
    frames = read_frames(named_system("aspirin").train)
    sizes = (4,) if settings.small else (10, 100, 1000)
    precisions = ("float32",) if settings.small else PRECISIONS
    losses = list(LOSSES)[2:] if settings.small else list(LOSSES)
    cases = itertools.product(precisions[:1], losses, sizes)
    further = itertools.product(precisions[1:], losses[::2], sizes[-2:])
    for precision, loss, size in itertools.chain(cases, further):
        title = f"{precision}, {loss}, batches of {size}"
        report.attempt(title, measure, report, settings, title, frames, precision, LOSSES[loss], size)


def measure(
    report: Report, settings: Settings, title: str, frames: FrameSet, precision: str, overrides: list[str], size: int
) -> None:
    """Add the time of a training step."""
    channels = 16 if settings.small else 128
    config = load_config(
        None, [f"model.channels={channels}", "model.radial_size=20", f"optimizer.batch_size={size}", *overrides]
    )
    objective = build_objective(config.loss, config.displacement)
    potential = potential_of(config, frames, settings, precision)
    batch, collated, moved = batch_of(config, frames, objective, settings)
    optimizer = torch.optim.AdamW(potential.parameters(), 1e-4, amsgrad=True, fused=True)
    mixed = precision == "bf16-mixed"
    last = torch.zeros(())

    def step() -> None:
        nonlocal last
        kind: AbstractContextManager[object] = (
            torch.autocast(settings.device, torch.bfloat16) if mixed else nullcontext()
        )
        with kind:
            loss, _ = objective(potential, batch, FrameRandom(0, 0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = loss.detach()

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "TF32" else "highest")
    peak_memory(settings.device)
    try:
        milli = milliseconds(step, settings.device, 0.05 if settings.small else 1.0)
    finally:
        torch.set_float32_matmul_precision(before)
    report.measure(
        title,
        ms=milli,
        structures_per_s=1e3 * size / milli,
        memory_mb=peak_memory(settings.device),
        collate_ms=collated,
        to_device_ms=moved,
        loss=float(last),
    )


def potential_of(config: TrainingConfig, frames: FrameSet, settings: Settings, precision: str) -> Potential:
    """Return a potential with random weights and the neighbor sums of training."""
    torch.manual_seed(0)
    potential = build_potential(config.model, fit_reference_energies(frames, frames.elements)).to(settings.device)
    sums, _ = training_neighbor_sums(torch.device(settings.device), precision == "bf16-mixed")
    use_in_training(potential, sums)
    return potential


def batch_of(
    config: TrainingConfig, frames: FrameSet, objective: Objective, settings: Settings
) -> tuple[Batch, float, float]:
    """Return a batch on the device, and the milliseconds to make and to move it."""
    size, cutoff = config.optimizer.batch_size, config.model.cutoff + objective.margin
    some = [frames[number] for number in range(size)]
    start = time.perf_counter()
    batch = collate(some, cutoff, indices=range(size))
    collated = 1e3 * (time.perf_counter() - start)
    return batch.to(settings.device), collated, milliseconds(lambda: batch.to(settings.device), settings.device, 0.05)
