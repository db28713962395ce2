"""Devices and backends of the processes of a run."""

import torch

from piwsl.errors import ConfigError
from piwsl.training.config import TrainingConfig
from piwsl.training.distributed.processes import Processes


def backend_of(config: TrainingConfig) -> str:
    """Return the backend of communication: nccl between GPUs, gloo otherwise."""
    return "nccl" if config.accelerator != "cpu" and torch.cuda.is_available() else "gloo"


def chosen_device(config: TrainingConfig, processes: Processes) -> torch.device:
    """Return the device of this process.

    Raises:
        ConfigError: A GPU is required and there is none, or not one for each process.
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
