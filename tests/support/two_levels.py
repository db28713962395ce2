"""Water at two levels of theory whose difference is known: a Morse force field, and the same with harmonic pairs."""

import numpy as np
import torch

from piwsl.data.batch import collate
from tests.support.molecules import PairPotential, frame

OFFSETS = {"low": -1990.0, "high": -2000.0}  # eV
FIELDS = {
    "low": PairPotential(lambda r: 4.0 * (1.0 - torch.exp(-1.5 * (r - 1.0))) ** 2),
    "high": PairPotential(lambda r: 4.0 * (1.0 - torch.exp(-1.5 * (r - 1.0))) ** 2 + 2.0 * (r - 1.3) ** 2),
}


def labeled(level, seeds):
    """Return batches of water with the exact energies and forces of a level."""
    batch = collate([frame("H2O", rattle=0.06, seed=seed) for seed in seeds], 8.0, torch.float64)
    return batch, FIELDS[level](batch)


def write_water(path, level, seeds, forces=True):
    """Write such frames to an npz file."""
    batch, prediction = labeled(level, seeds)
    count = len(seeds)
    arrays = {
        "nuclear_charges": batch.species[:3].numpy(),
        "coords": batch.positions.reshape(count, 3, 3).numpy(),
        "energies": prediction.energies.numpy() + OFFSETS[level],
        "units": "eV, angstrom",
    }
    if forces:
        arrays["forces"] = prediction.forces.numpy().reshape(count, 3, 3)
    np.savez(path, **arrays)
    return path
