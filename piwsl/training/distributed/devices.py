"""Where a run computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from piwsl.errors import ConfigError
from piwsl.training.config import TrainingConfig
from piwsl.training.distributed.processes import Processes


def backend_of(config: TrainingConfig) -> str:
    """What processes speak through: nccl between GPUs, gloo otherwise."""
    return "nccl" if config.accelerator != "cpu" and torch.cuda.is_available() else "gloo"


def chosen_device(config: TrainingConfig, processes: Processes) -> torch.device:
    """The device of this process.

    Raises:
        ConfigError: a GPU was asked for and there is none, or not one for each process.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "gpu" and not gpus:
        raise ConfigError("accelerator: gpu, but torch finds no CUDA device here: use cpu, or install torch with CUDA")
    if config.accelerator == "cpu" or not gpus:
        return torch.device("cpu")
    if processes.local_count > gpus:
        raise ConfigError(
            f"{processes.local_count} processes on this machine but {gpus} GPUs: start one for each, or set "
            "accelerator: cpu"
        )
    return torch.device("cuda", processes.local_rank)


def use_threads(threads: int | None) -> None:
    """Processor threads of torch, all by default."""
    if threads:
        torch.set_num_threads(threads)


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Only deterministic algorithms within the block, where asked for."""
    if not deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
