"""piwsl's side of training_throughput.py: a training step made of the parts that `piwsl train` uses.

python benchmarks/piwsl_step.py loss.pitc=1 ... takes the overrides of `piwsl train`.
"""

import sys
import time
from collections.abc import Callable

import torch
from step_server import serve

from piwsl.data.batch import collate
from piwsl.data.read import read_frames
from piwsl.data.reference_energies import fit_reference_energies
from piwsl.data.systems import named_system
from piwsl.losses import FrameRandom
from piwsl.models import build_potential
from piwsl.models.training_loops import training_neighbor_sums, use_in_training
from piwsl.runs.process_settings import keep_freed_memory
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.objective import build_objective
from piwsl.training.task import TrainingTask

BATCHES = 20  # different ones, used in turn


def training_step(config: TrainingConfig) -> tuple[Callable[[int], float], dict[str, object]]:
    """Return a function that makes the n-th training step on bundled aspirin and returns its loss, and notes."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    frames = read_frames(named_system("aspirin").train)
    potential = build_potential(config.model, fit_reference_energies(frames, frames.elements))
    use_in_training(potential, training_neighbor_sums(torch.device("cpu"))[0])
    objective = build_objective(config.loss, config.displacement)
    task = TrainingTask(potential, objective, config.optimizer, config.seed)
    optimizer = task.configure_optimizers()["optimizer"]
    size, cutoff = config.optimizer.batch_size, config.model.cutoff + objective.margin
    start = time.process_time()
    batches = [
        collate(frames[first : first + size], cutoff, indices=range(first, first + size))
        for first in range(0, BATCHES * size, size)
    ]
    collate_seconds = (time.process_time() - start) / BATCHES

    def step(number: int) -> float:
        loss, _ = objective(potential, batches[number % BATCHES], FrameRandom(config.seed, number))
        optimizer.zero_grad()
        task.backward(loss)
        optimizer.step()
        return float(loss.detach())

    return step, {
        "parameters": sum(weight.numel() for weight in potential.parameters()),
        "edges": batches[0].edges.shape[1],
        "collate_ms": 1e3 * collate_seconds,
    }


def main() -> None:
    step, facts = training_step(load_config(None, sys.argv[1:]))
    serve(step, {"library": "piwsl"} | facts)


if __name__ == "__main__":
    main()
