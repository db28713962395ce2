"""How many threads PyTorch uses."""

import os

import torch

# Up to here a step is many small operations: a second thread brings a fifth at best, and costs several times as much
# where the processor it waits for is busy.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Let torch use one thread for a small molecule, unless OMP_NUM_THREADS asks for a number; else its default."""
    if n_atoms <= SINGLE_THREAD_ATOMS and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


def replica_threads(device: str = "cpu") -> int:
    """How many calls for replicas to make at a time, each in one thread: one a processor, or OMP_NUM_THREADS."""
    if device != "cpu":
        return 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) > 0 else _processors()


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
