"""Devices and backends of the processes of a run."""

import torch

from piwsl.errors import ConfigError
from piwsl.training.config import TrainingConfig
from piwsl.training.distributed.processes import Processes


def backend_of(config: TrainingConfig) -> str:
    """Return the communication backend: ``nccl`` for GPUs, ``gloo`` otherwise."""
    return "nccl" if config.accelerator != "cpu" and torch.cuda.is_available() else "gloo"


def chosen_device(config: TrainingConfig, processes: Processes) -> torch.device:
    """Return the device of this process.

    Raises:
        ConfigError: The configuration requires a GPU but PyTorch finds none, or there are fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "gpu" and not gpus:
        raise ConfigError("accelerator: gpu, but PyTorch finds no CUDA device: use cpu, or install PyTorch with CUDA")
    if config.accelerator == "cpu" or not gpus:
        return torch.device("cpu")
    if processes.local_count > gpus:
        raise ConfigError(
            f"{processes.local_count} processes on this machine, but only {gpus} GPUs: start one process per GPU, or "
            "set accelerator: cpu"
        )
    return torch.device("cuda", processes.local_rank)
