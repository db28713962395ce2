"""Estimate of the memory of a training step before the first step.

During a step, autograd saves tensors for the backward pass: features of each layer for every edge and every atom of the
batch and its displaced copies, and further tensors if forces are differentiated again. Their size depends on the
network and the loss. Therefore, the estimate computes the loss of one small structure and counts the bytes that
autograd saves. The result is scaled by the numbers of edges and atoms to the largest part of a step in the run.

The backward pass allocates further memory, so the peak of a step is larger than the saved tensors. The peak resident
memory (VmHWM) of one step on aspirin is 1.1 to 1.9 times the size of the saved tensors, and 1.4 times on average. The
measurements cover batches of 4, 16, 24 and 48; PaiNN with 64 and 128 channels and with direct forces, SchNet and
TensorNet; energies with and without forces, PITC and PISC; and float32 and float64. The error of an estimate is thus
about one third.
"""

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import ConfigError
from piwsl.export.trained_file import DTYPES
from piwsl.losses import FrameRandom, Objective
from piwsl.models import Potential
from piwsl.training.fit import Setup
from piwsl.training.loader import training_order
from piwsl.training.replay import with_replay
from piwsl.typing import IntArray

PEAK = 1.4  # peak memory of a step divided by the size of the saved tensors
STATES = 6  # tensors of the size of the weights: gradient, three moments of AMSGrad, average and its source
PROBE_ATOMS = 60
LOOKED_AT = 2_000_000  # largest number of positions in the order of the frames that are examined
SAMPLE = 50  # structures whose edges are counted
GIGABYTE = 1e9


@dataclass(frozen=True)
class StepMemory:
    """Required and available memory of a training step on a machine or GPU.

    Attributes:
        needed: Memory that a step of all processes on this machine or GPU requires, bytes.
        available: Memory of the machine or GPU, bytes.
        structures: Number of structures in the largest part of a step.
        atoms: Number of atoms in that part.
        copies: Number of displaced copies of each structure.
    """

    needed: float
    available: float
    structures: int
    atoms: int
    copies: int

    def check(self) -> None:
        """Raise an error if the step does not fit into memory.

        Raises:
            ConfigError: The step requires more memory than is available. The message contains the estimate and advice.
        """
        if self.needed <= self.available:
            return
        advice = ["set loss.pisc: 0"] if self.copies > 1 else []
        advice += ["reduce optimizer.batch_size", "increase optimizer.accumulate"] if self.structures > 1 else []
        advice += ["use a smaller network (fewer model.channels or model.layers)"]
        raise ConfigError(
            f"a training step requires about {self.needed / GIGABYTE:.1f} GB, but only "
            f"{self.available / GIGABYTE:.1f} GB are available: {self.structures} structures with {self.atoms} atoms "
            f"in total and {self.copies} displaced copies of each; "
            f"{', or '.join(advice)}"
        )


def step_memory(setup: Setup, objective: Objective, potential: Potential) -> StepMemory | None:
    """Estimate the memory of the steps of a run.

    Args:
        setup: Settings of the run.
        objective: Training objective.
        potential: Potential before training, on the CPU. It is not modified.

    Returns:
        The estimate, or None if the system does not report its memory.
    """
    config = setup.config
    if objective.teacher is not None:  # The probe must not enter the stored predictions.
        objective = replace(objective, teacher=objective.teacher.fresh())
    available = memory_of(setup.device)
    if available is None:
        return None
    part = _largest_part(setup)
    frames = with_replay(setup.frames.train, setup.replay)
    atoms = int(frames.census.sizes[part].sum())
    sample = _batch(setup, [frames[int(index)] for index in part[:SAMPLE]], objective)
    probe = _batch(setup, [_cropped(_typical_frame(frames))], objective)
    step = fullest_step(objective, config.optimizer.steps)
    with torch.autocast("cpu", torch.bfloat16) if config.dtype == "bf16-mixed" else nullcontext():
        kept = _kept_by_autograd(objective, potential, probe, step)
    edges = sample.edges.shape[1] * atoms / len(sample.species)
    growth = max(edges / max(1, probe.edges.shape[1]), atoms / len(probe.species))
    weights = sum(weight.nbytes for weight in potential.parameters())
    needed = PEAK * kept * growth + STATES * weights
    if setup.device.type == "cpu":
        needed = setup.processes.local_count * (needed + _resident())
    return StepMemory(needed, available, len(part), atoms, objective.copies)


def _largest_part(setup: Setup) -> IntArray:
    """Return the frame indices of the largest part of a step, by number of atoms."""
    share, steps = setup.share, setup.config.optimizer.steps
    looked_at = min(steps, max(1, LOOKED_AT // share.batch_size)) * share.batch_size
    order = training_order(setup.config, setup.frames, setup.replay).frames(0, looked_at)
    parts = order.reshape(-1, share.size)
    sizes = with_replay(setup.frames.train, setup.replay).census.sizes
    largest: IntArray = parts[sizes[parts].sum(1).argmax()]
    return largest


def _typical_frame(frames: FrameSet) -> Frame:
    """Return the frame of median size among the frames with the most labels, so that all loss terms apply."""
    census = frames.census
    labels = census.has_energy * 1 + census.has_forces * 2 + census.has_stress * 1
    candidates = np.flatnonzero(labels == labels.max())
    by_size = candidates[np.argsort(census.sizes[candidates], kind="stable")]
    return frames[int(by_size[len(by_size) // 2])]


def _cropped(frame: Frame) -> Frame:
    """Return the neighborhood of the first atom as a molecule, because the memory is proportional to the edges."""
    distances = np.linalg.norm(frame.positions - frame.positions[0], axis=1)
    nearest = np.argsort(distances, kind="stable")[:PROBE_ATOMS]
    if len(nearest) == len(frame.species):
        return frame
    return replace(
        frame,
        species=frame.species[nearest],
        positions=frame.positions[nearest],
        forces=frame.forces[nearest],
        force_spread=None,
        cell=np.zeros((3, 3)),
        pbc=(False, False, False),
    )


def _batch(setup: Setup, frames: list[Frame], objective: Objective) -> Batch:
    config = setup.config
    return collate(frames, config.model.cutoff + objective.margin, DTYPES[config.weights_dtype])


def fullest_step(objective: Objective, steps: int) -> int:
    """Return a step at which the largest number of loss terms is active."""
    last = steps - 1
    displaced = objective.warmup + max(0, last - objective.warmup) // objective.cadence * objective.cadence
    return max((0, objective.warmup, displaced), key=lambda step: len(objective.acting(step)))


def _kept_by_autograd(objective: Objective, potential: Potential, batch: Batch, step: int) -> int:
    """Return the number of bytes that autograd saves for the backward pass of a loss, without the weights."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        try:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        except RuntimeError:
            pass  # A derivative that is identically zero has no storage.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = objective(potential, batch, FrameRandom(0, step))
    for weight in (*potential.parameters(), *potential.buffers()):
        storages.pop(weight.untyped_storage().data_ptr(), None)
    del loss  # The loss must exist until here, so that no storage is reused.
    return sum(storages.values())


def memory_of(device: torch.device) -> float | None:
    """Return the total memory of a GPU, or the memory of this machine that this process may use, bytes."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):
        return None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # There is no control group, or it has no limit.
            continue
    return float(min(limits))


def _resident() -> float:
    """Return the resident memory of this process, bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
