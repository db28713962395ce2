"""Entries of a trained file that consist of tensors: weights by name, and structures without labels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from piwsl.data.charges import LARGEST
from piwsl.data.frames import Frame
from piwsl.typing import MAX_ATOMIC_NUMBER


def named_tensors(values: object) -> dict[str, Tensor]:
    """Return the weights of a file by name.

    Raises:
        ValueError: The value is not a mapping of names to tensors.
    """
    if not isinstance(values, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items()
    ):
        raise ValueError("the weights are not a mapping of names to tensors")
    return dict(values)


def frame_entry(frame: Frame) -> dict[str, Tensor]:
    """Return the entry of a structure in a trained file, without labels."""
    stated = {"charge_spin": torch.tensor([frame.charge, frame.unpaired_electrons])} if frame.states_charge else {}
    return {
        "species": torch.as_tensor(frame.species),
        "positions": torch.as_tensor(frame.positions),
        "cell": torch.as_tensor(frame.cell),
        "pbc": torch.tensor(frame.pbc),
        **stated,
    }


def check_frame(entry: Any) -> Frame:
    """Return a structure for the verification of exports from its entry in a trained file.

    Raises:
        ValueError: The arrays have invalid shapes, types or values.
    """
    species, positions = entry["species"].numpy(), entry["positions"].numpy()
    cell, pbc = entry["cell"].numpy(), entry["pbc"].numpy()
    fits = positions.shape == (len(species), 3) and cell.shape == (3, 3) and pbc.shape == (3,)
    if not fits or species.dtype != np.int64 or not len(species):
        raise ValueError("a structure for verification has arrays of invalid shapes")
    if species.min() < 1 or species.max() > MAX_ATOMIC_NUMBER or not np.isfinite(positions).all():
        raise ValueError("a structure for verification has invalid elements or positions")
    if positions.dtype != np.float64 or cell.dtype != np.float64 or not np.isfinite(cell).all():
        raise ValueError("a structure for verification has an invalid cell or positions of an invalid type")
    states = entry.get("charge_spin", torch.full((2,), float("nan")))
    if states.shape != (2,) or not bool((states.isnan() | (states.abs() <= LARGEST)).all()):
        raise ValueError("a structure for verification has an invalid charge or spin")
    return Frame(
        species=species,
        positions=positions,
        energy=float("nan"),
        forces=positions * float("nan"),
        cell=cell,
        pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
        charge=float(states[0]),
        unpaired_electrons=float(states[1]),
    )
