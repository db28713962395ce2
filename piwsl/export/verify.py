"""Comparing an exported potential with the eager model: before it is written, and where it is loaded.

Compiled models can be wrong for odd numbers of atoms, for a second molecule, or after a warm-up. Therefore every entry
point of a program is compared on several structures, after a warm-up, with the eager potential and neighbors from
vesin; forces and virial are also compared with finite differences of the energy.

In float32, some structures magnify rounding errors, such as crystals where features vanish by symmetry. There, forces
may differ by twice the difference between the eager model in float32 and in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ExportError, ModelFileError
from piwsl.export.entry_points import Evaluate, entry_points
from piwsl.export.evaluation import Evaluation
from piwsl.export.exported_file import ExportedPotential
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences: eV/atom, eV/angstrom, and for finite differences eV/angstrom and eV/atom."""

    energy_per_atom: float
    force: float
    finite_difference: float
    finite_strain: float


TOLERANCES = {
    "float32": Tolerance(energy_per_atom=2e-6, force=1e-4, finite_difference=1e-2, finite_strain=1e-2),
    "float64": Tolerance(energy_per_atom=1e-9, force=1e-8, finite_difference=1e-4, finite_strain=1e-4),
}
# Steps of the central differences along a random direction of unit length, angstrom, and along a random strain.
_STEP = {"float32": 4e-3, "float64": 1e-5}
_STRAIN = {"float32": 1e-3, "float64": 1e-5}
_WARM_UP = 3
# Structures that travel in the file, so that it can be compared again where it is loaded.
_CARRIED = 2


@dataclass(frozen=True)
class Verification:
    """Largest differences, in the units of `Tolerance`; None where there is nothing to compare."""

    structures: int
    energy_per_atom: float
    force: float
    finite_difference: float | None
    finite_strain: float | None
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether every figure is finite and within its tolerance."""
        return all(np.isfinite(value) and value <= limit for _, value, limit, _ in self._figures())

    def lines(self) -> list[str]:
        """Return the figures as text."""
        return [f"{name:26}{value:.1e} {unit} (at most {limit:.0e})" for name, value, limit, unit in self._figures()]

    def _figures(self) -> list[tuple[str, float, float, str]]:
        limits = self.tolerance
        figures = [
            ("energy against eager", self.energy_per_atom, limits.energy_per_atom, "eV/atom"),
            ("forces against eager", self.force, limits.force, "eV/A"),
            ("forces against -dE/dx", self.finite_difference, limits.finite_difference, "eV/A"),
            ("virial against -dE/d(eps)", self.finite_strain, limits.finite_strain, "eV/atom"),
        ]
        return [(name, value, limit, unit) for name, value, limit, unit in figures if value is not None]


@dataclass(frozen=True)
class Expected:
    """Result of the eager model for a structure.

    Attributes:
        frame: The structure.
        reference: Energy and forces of the eager model.
        rounding: Largest difference between its forces and those in float64, eV/angstrom.
    """

    frame: Frame
    reference: Evaluation
    rounding: float


def expectations(frames: Sequence[Frame], model: Evaluate, exact: Evaluate) -> list[Expected]:
    """Evaluate structures with the eager model.

    Args:
        frames: Structures.
        model: Eager model in the float type of the exported file.
        exact: The same model in float64.
    """
    expected = []
    for frame in frames:
        reference = model(frame)
        rounding = float(np.abs(reference.forces - exact(frame).forces).max())
        expected.append(Expected(frame, reference, rounding))
    return expected


def eager(potentials: Sequence[Potential], cutoff: float, dtype: torch.dtype = torch.float64) -> Evaluate:
    """Return an evaluation by the mean of eager potentials, with neighbors from vesin."""

    def evaluate(frame: Frame) -> Evaluation:
        batch = collate([frame], cutoff, dtype).to(potentials[0].scale.device)
        members = [potential(*batch.graph) for potential in potentials]
        energy = float(torch.stack([energies[0] for energies, _ in members]).detach().mean())
        forces = torch.stack([forces for _, forces in members]).detach().to("cpu", torch.float64).mean(0)
        return Evaluation(energy, forces.numpy())

    return evaluate


def parity_variants(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames, each followed by a copy without its last atom: odd and even numbers of atoms."""
    variants = []
    for frame in frames:
        variants.append(frame)
        if len(frame.species) > 2:
            variants.append(
                replace(frame, species=frame.species[:-1], positions=frame.positions[:-1], forces=frame.forces[:-1])
            )
    return variants


def verify(potential: ExportedPotential, expected: Sequence[Expected]) -> Verification:
    """Compare a potential with results of the eager model.

    Raises:
        ExportError: There are no structures, or a figure is above its tolerance.
    """
    if not expected:
        raise ExportError("the trained file holds no structures on which to verify an export: train it again")
    result = _compare(potential, expected)
    if not result.passed:
        raise ExportError("the exported form disagrees with the model and is not written: " + "; ".join(result.lines()))
    return result


def carried_structures(expected: Sequence[Expected]) -> list[dict[str, Any]]:
    """Return the smallest structures and their eager results, as the description of the file stores them."""
    return [
        {
            "species": entry.frame.species.tolist(),
            "positions": entry.frame.positions.tolist(),
            "cell": entry.frame.cell.tolist(),
            "pbc": list(entry.frame.pbc),
            "energy": entry.reference.energy,
            "forces": entry.reference.forces.tolist(),
            "rounding": entry.rounding,
        }
        for entry in sorted(expected, key=lambda entry: len(entry.frame.species))[:_CARRIED]
    ]


def verify_here(potential: ExportedPotential) -> Verification:
    """Compare a loaded file with the eager results that it carries.

    Raises:
        ModelFileError: The results differ on this machine.
    """
    expected = []
    for entry in potential.info["check"]:
        species, forces = np.array(entry["species"]), np.array(entry["forces"])
        pbc = (bool(entry["pbc"][0]), bool(entry["pbc"][1]), bool(entry["pbc"][2]))
        frame = Frame(
            species, np.array(entry["positions"]), float("nan"), forces * np.nan, np.array(entry["cell"]), pbc
        )
        reference = Evaluation(float(entry["energy"]), forces)
        expected.append(Expected(frame, reference, float(entry["rounding"])))
    result = _compare(potential, expected)
    if not result.passed:
        raise ModelFileError(
            f"{potential.path} gives other results on this machine than at export ({'; '.join(result.lines())}): "
            "export it again on this machine"
        )
    return result


def _compare(potential: ExportedPotential, expected: Sequence[Expected]) -> Verification:
    """Call every entry point on every structure, after a warm-up, and collect the largest differences."""
    dtype = str(potential.info["dtype"])
    rng, step, strain = np.random.default_rng(0), _STEP[dtype], _STRAIN[dtype]
    energy = force = 0.0
    difference: float | None = None
    strained: float | None = None
    for call in entry_points(potential):
        for _ in range(_WARM_UP):
            call(expected[0].frame)
        for entry in expected:
            frame, reference = entry.frame, entry.reference
            result, n_atoms = call(frame), len(frame.species)
            energy = _worst(energy, abs(result.energy - reference.energy) / n_atoms)
            deviation = float(np.abs(result.forces - reference.forces).max())
            exceeds = not deviation <= TOLERANCES[dtype].force
            force = _worst(force, deviation - 2.0 * entry.rounding if exceeds else deviation)
            if not potential.has_stress:
                continue  # forces with a head of their own are not derivatives
            direction = rng.normal(size=frame.positions.shape)
            direction /= np.linalg.norm(direction)
            ahead, behind = (call(_moved(frame, sign * step * direction)).energy for sign in (1.0, -1.0))
            slope = (ahead - behind) / (2.0 * step)
            difference = _worst(difference, abs(slope + float((result.forces * direction).sum())))
            if result.virial is not None:
                along = rng.normal(size=(3, 3))
                along = (along + along.T) / np.linalg.norm(along + along.T)
                ahead, behind = (call(_strained(frame, sign * strain * along)).energy for sign in (1.0, -1.0))
                slope = (ahead - behind) / (2.0 * strain)
                strained = _worst(strained, abs(slope + float((result.virial * along).sum())) / n_atoms)
    return Verification(len(expected), energy, force, difference, strained, TOLERANCES[dtype])


def _worst(so_far: float | None, value: float) -> float:
    """Return the larger of two figures; NaN counts as the largest."""
    return value if so_far is None or np.isnan(value) or value > so_far else so_far


def _moved(frame: Frame, displacement: FloatArray) -> Frame:
    """Return a frame with displaced atoms; displacement (n, 3), angstrom."""
    return replace(frame, positions=frame.positions + displacement)


def _strained(frame: Frame, strain: FloatArray) -> Frame:
    """Return a frame with strained positions and cell; strain (3, 3)."""
    deformation = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ deformation, cell=frame.cell @ deformation)
