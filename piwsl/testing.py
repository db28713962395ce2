"""Checks that any potential must pass: for our own networks, for exports, and for people who bring a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame
from piwsl.typing import FloatArray

PotentialCall = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(species, positions, edges, edge_shifts, structure_index, n_structures) -> energies (S,) eV, forces (N, 3) eV/A."""


@dataclass(frozen=True)
class Tolerances:
    """Largest accepted differences: eV per atom, eV/angstrom, and eV/angstrom of a central difference."""

    energy_per_atom: float
    force: float
    finite_difference: float


TOLERANCES = {
    torch.float32: Tolerances(energy_per_atom=2e-5, force=5e-4, finite_difference=2e-2),
    torch.float64: Tolerances(energy_per_atom=1e-9, force=1e-8, finite_difference=1e-5),
}
_STEP = {torch.float32: 1e-2, torch.float64: 1e-4}  # angstrom


class ModelCheckError(AssertionError):
    """A potential breaks a law that every potential must keep."""


def check_model(
    potential: PotentialCall, frames: Sequence[Frame], cutoff: float, dtype: torch.dtype = torch.float32
) -> None:
    """Check the laws: extensive energy, translation, rotation, permutation, F = -dE/dx, batching, untouched inputs.

    Args:
        potential: see `PotentialCall`; a `piwsl.models.potential.Potential` is one.
        frames: real molecules of at least two sizes, without cell.
        cutoff: range of the potential, angstrom.
        dtype: type of positions and forces.

    Raises:
        ModelCheckError: names the law, the frame and the figure.
    """
    check = _Check(potential, cutoff, dtype)
    for index, frame in enumerate(frames):
        check.name = f"frame {index} ({frame.atoms().get_chemical_formula()})"
        check.types_and_inputs(frame)
        check.translation(frame)
        check.rotation(frame)
        check.permutation(frame)
        check.extensive(frame)
        check.derivative(frame)
    check.name = "all frames in one batch"
    check.batching(frames)


class _Check:
    def __init__(self, potential: PotentialCall, cutoff: float, dtype: torch.dtype) -> None:
        self.potential = potential
        self.cutoff = cutoff
        self.dtype = dtype
        self.tolerances = TOLERANCES[dtype]
        self.rng = np.random.default_rng(0)
        self.name = ""

    def types_and_inputs(self, frame: Frame) -> None:
        batch = collate([frame], self.cutoff, self.dtype)
        before = [tensor.clone() for tensor in _inputs(batch)]
        energies, forces = self.potential(*_inputs(batch), 1)
        after = _inputs(batch)
        self._require(all(map(torch.equal, before, after)), "the inputs are changed by the call")
        self._require(energies.dtype == torch.float64, f"energies are {energies.dtype}, expected float64")
        self._require(energies.shape == (1,), f"energies have shape {tuple(energies.shape)}, expected (1,)")
        self._require(forces.dtype == self.dtype, f"forces are {forces.dtype}, expected {self.dtype}")
        self._require(forces.shape == batch.positions.shape, f"forces have shape {tuple(forces.shape)}")

    def translation(self, frame: Frame) -> None:
        moved = replace(frame, positions=frame.positions + np.array([0.3, -1.1, 0.7]))
        self._same("translation", self._call([frame]), self._call([moved]))

    def rotation(self, frame: Frame) -> None:
        matrix, _ = np.linalg.qr(self.rng.normal(size=(3, 3)))
        energies, forces = self._call([frame])
        turned = self._call([replace(frame, positions=frame.positions @ matrix)])
        self._same("rotation or reflection", (energies, forces @ matrix), turned)

    def permutation(self, frame: Frame) -> None:
        order = self.rng.permutation(len(frame.species))
        energies, forces = self._call([frame])
        shuffled = replace(
            frame, species=frame.species[order], positions=frame.positions[order], forces=frame.forces[order]
        )
        self._same("permutation", (energies, forces[order]), self._call([shuffled]))

    def extensive(self, frame: Frame) -> None:
        energies, forces = self._call([frame])
        away = np.array([100.0, 0.0, 0.0])
        double = Frame(
            np.tile(frame.species, 2),
            np.concatenate([frame.positions, frame.positions + away]),
            float("nan"),
            np.tile(frame.forces, (2, 1)),
        )
        self._same("extensivity", (2.0 * energies, np.tile(forces, (2, 1))), self._call([double]))

    def derivative(self, frame: Frame) -> None:
        # Away from points of symmetry, where norms of vectors that vanish have their sharpest curvature.
        frame = replace(frame, positions=frame.positions + self.rng.normal(scale=0.02, size=frame.positions.shape))
        _, forces = self._call([frame])
        direction = self.rng.normal(size=frame.positions.shape)
        direction /= np.linalg.norm(direction)
        step = _STEP[self.dtype]
        ahead = self._call([replace(frame, positions=frame.positions + step * direction)])[0]
        behind = self._call([replace(frame, positions=frame.positions - step * direction)])[0]
        slope = float((ahead - behind)[0]) / (2.0 * step)
        self._small("F = -dE/dx", abs(slope + float((forces * direction).sum())), self.tolerances.finite_difference)

    def batching(self, frames: Sequence[Frame]) -> None:
        alone = [self._call([frame]) for frame in frames]
        together = self._call(frames)
        expected = np.concatenate([energies for energies, _ in alone]), np.concatenate([f for _, f in alone])
        self._same("batching", expected, together)

    def _call(self, frames: Sequence[Frame]) -> tuple[FloatArray, FloatArray]:
        # Edges a little beyond the cutoff, so that moved atoms keep all their neighbours.
        batch = collate(frames, self.cutoff + 0.1, self.dtype)
        energies, forces = self.potential(*_inputs(batch), len(frames))
        return energies.detach().numpy(), forces.detach().numpy().astype(np.float64)

    def _same(self, law: str, one: tuple[FloatArray, FloatArray], two: tuple[FloatArray, FloatArray]) -> None:
        atoms = len(one[1])
        self._small(f"{law} (energy per atom)", np.abs(one[0] - two[0]).max() / atoms, self.tolerances.energy_per_atom)
        self._small(f"{law} (forces)", np.abs(one[1] - two[1]).max(), self.tolerances.force)

    def _small(self, law: str, figure: float, limit: float) -> None:
        self._require(bool(figure <= limit), f"{law}: {figure:.2e}, at most {limit:.0e}")

    def _require(self, kept: bool, what: str) -> None:
        if not kept:
            raise ModelCheckError(f"{self.name}: {what}")


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index
