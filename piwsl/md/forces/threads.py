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
