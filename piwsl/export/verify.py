"""Comparing an exported form with the eager model, before it is written."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ExportError
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray

Evaluate = Callable[[Frame], tuple[float, FloatArray]]
"""A frame -> energy in eV and forces (n, 3) in eV/angstrom."""


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences: eV per atom, eV/angstrom, eV/angstrom (finite difference along a direction)."""

    energy_per_atom: float
    force: float
    finite_difference: float


TOLERANCES = {
    "float32": Tolerance(energy_per_atom=5e-6, force=2e-4, finite_difference=1e-2),
    "float64": Tolerance(energy_per_atom=1e-9, force=1e-8, finite_difference=1e-4),
}
# Step of the central difference along a random direction of unit length, angstrom.
_STEP = {"float32": 4e-3, "float64": 1e-4}


@dataclass(frozen=True)
class Verification:
    """Largest differences found, in the units of `Tolerance`."""

    frames: int
    energy_per_atom: float
    force: float
    finite_difference: float
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether every figure is finite and within its tolerance."""
        limits = asdict(self.tolerance)
        return all(np.isfinite(getattr(self, name)) and getattr(self, name) <= limits[name] for name in limits)

    def lines(self) -> list[str]:
        """The figures as text."""
        t = self.tolerance
        return [
            f"energy against eager      {self.energy_per_atom:.1e} eV/atom (at most {t.energy_per_atom:.0e})",
            f"forces against eager      {self.force:.1e} eV/A (at most {t.force:.0e})",
            f"forces against -dE/dx     {self.finite_difference:.1e} eV/A (at most {t.finite_difference:.0e})",
        ]


def eager_evaluator(potential: Potential, cutoff: float, dtype: torch.dtype) -> Evaluate:
    """The eager potential with neighbour lists from vesin, as the yardstick."""

    def evaluate(frame: Frame) -> tuple[float, FloatArray]:
        batch = collate([frame], cutoff, dtype)
        energies, forces = potential(
            batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, 1
        )
        return energies.item(), _array(forces)

    return evaluate


def verify(form: Evaluate, eager: Evaluate, frames: Sequence[Frame], dtype: str) -> Verification:
    """Compare a form with the eager model on real frames, after a warm-up that lets a compiler specialise.

    Raises:
        ExportError: there is no frame to compare on, or a figure is above its tolerance.
    """
    if not frames:
        raise ExportError("the trained file holds no frames to verify an export on: train it again")
    for _ in range(3):
        form(frames[0])
    rng, step = np.random.default_rng(0), _STEP[dtype]
    energy = force = difference = 0.0
    for frame in frames:
        e_form, f_form = form(frame)
        e_eager, f_eager = eager(frame)
        energy = _worst(energy, abs(e_form - e_eager) / len(frame.species))
        force = _worst(force, float(np.abs(f_form - f_eager).max()))
        direction = rng.normal(size=frame.positions.shape)
        direction /= np.linalg.norm(direction)
        ahead, behind = (form(_moved(frame, sign * step * direction))[0] for sign in (1.0, -1.0))
        slope = (ahead - behind) / (2.0 * step)
        difference = _worst(difference, abs(slope + float((f_form * direction).sum())))
    result = Verification(len(frames), energy, force, difference, TOLERANCES[dtype])
    if not result.passed:
        raise ExportError("the exported form disagrees with the model and is not written: " + "; ".join(result.lines()))
    return result


def _worst(so_far: float, value: float) -> float:
    """The larger of two figures, where NaN is the worst of all."""
    return value if np.isnan(value) or value > so_far else so_far


def _moved(frame: Frame, displacement: FloatArray) -> Frame:
    return Frame(frame.species, frame.positions + displacement, frame.energy, frame.forces, frame.cell, frame.pbc)


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().numpy().astype(np.float64)
    return array
