"""How many threads PyTorch uses."""

import torch

# Up to here a step is many small operations, and waking a second thread costs more than it brings.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Let torch use one thread for a small molecule; larger ones keep its default."""
    if n_atoms <= SINGLE_THREAD_ATOMS:
        torch.set_num_threads(1)
