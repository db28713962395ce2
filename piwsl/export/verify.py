"""Verification of an exported potential against the eager model, before it is written and after it is loaded.

Compiled models may return wrong results for odd numbers of atoms, for a second molecule, or after a warm-up. Therefore,
every entry point of a program is compared with the eager potential on several structures after a warm-up. The eager
potential uses neighbor lists from vesin. Forces and virials are also compared with finite differences of the energy.

In float32, some structures amplify rounding errors, such as crystals in which features vanish by symmetry. The
tolerance of forces is therefore increased by twice the difference between the eager models in float32 and float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms

from piwsl.data.batch import collate
from piwsl.data.charges import NOT_STATED
from piwsl.data.frames import Frame
from piwsl.errors import ExportError, ModelFileError
from piwsl.export.entry_points import Evaluate, entry_points
from piwsl.export.evaluation import Evaluation
from piwsl.export.exported_file import ExportedPotential
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences.

    Attributes:
        energy_per_atom: Difference of the energy from the eager model, eV/atom.
        force: Difference of a force component from the eager model, eV/angstrom.
        finite_difference: Difference between forces and finite differences of the energy, eV/angstrom; in structures
            with larger forces than 10 eV/angstrom, this difference divided by a tenth of the largest force.
        finite_strain: Likewise between the virial and finite differences of the energy, eV/atom.
    """

    energy_per_atom: float
    force: float
    finite_difference: float
    finite_strain: float


TOLERANCES = {
    "float32": Tolerance(energy_per_atom=2e-6, force=1e-4, finite_difference=1e-2, finite_strain=1e-2),
    "float64": Tolerance(energy_per_atom=1e-9, force=1e-8, finite_difference=1e-4, finite_strain=1e-4),
}
# Steps of central differences along a random unit vector (angstrom) and along a random strain.
_STEP = {"float32": 4e-3, "float64": 1e-5}
_STRAIN = {"float32": 1e-3, "float64": 1e-5}
# Finite differences in float32 lose digits as the forces grow: beyond this force, their tolerances are relative.
_LARGE_FORCE = 10.0  # eV/angstrom
# Standard deviation of the displacements of a structure whose finite differences are compared again.
_RATTLE = 0.02  # angstrom
_WARM_UP = 3
# Number of structures stored in the file, for its verification on other machines.
_CARRIED = 2


@dataclass(frozen=True)
class Verification:
    """Largest differences in the units of `Tolerance`. Finite differences are None for direct forces."""

    structures: int
    energy_per_atom: float
    force: float
    finite_difference: float | None
    finite_strain: float | None
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether every difference is finite and within its tolerance."""
        return all(np.isfinite(value) and value <= limit for _, value, limit, _ in self._figures())

    def lines(self) -> list[str]:
        """Return the differences and their tolerances as lines of text."""
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
    """Expected result for a structure.

    Attributes:
        frame: Structure.
        reference: Energy and forces of the eager model.
        rounding: Largest difference between the forces of the eager model and its forces in float64, eV/angstrom.
    """

    frame: Frame
    reference: Evaluation
    rounding: float


def expectations(frames: Sequence[Frame], model: Evaluate, exact: Evaluate) -> list[Expected]:
    """Return the expected results of structures from the eager model.

    Args:
        frames: Structures.
        model: Evaluation by the eager model in the float type of the exported file.
        exact: Evaluation by the eager model in float64.

    Raises:
        ExportError: An energy or a force of the eager model is not finite.
    """
    expected = []
    for frame in frames:
        reference, precise = model(frame), exact(frame)
        if not (np.isfinite(reference.energy) and np.isfinite(reference.forces).all()):
            formula = Atoms(frame.species).get_chemical_formula("hill")
            if np.isfinite(precise.energy) and np.isfinite(precise.forces).all():
                advice = "float32 is too narrow for it, so export it in float64"
            else:
                advice = "its weights are damaged or its training diverged, so train it again"
            raise ExportError(
                f"the model itself gives values that are not finite (energy of {formula}: {reference.energy:g} eV): "
                f"{advice}"
            )
        rounding = float(np.abs(reference.forces - precise.forces).max())
        expected.append(Expected(frame, reference, rounding))
    return expected


def eager(potentials: Sequence[Potential], cutoff: float, dtype: torch.dtype = torch.float64) -> Evaluate:
    """Return an evaluation by the mean of eager potentials, with neighbor lists from vesin."""

    def evaluate(frame: Frame) -> Evaluation:
        batch = collate([frame], cutoff, dtype).to(potentials[0].scale.device)
        members = [potential(*batch.graph) for potential in potentials]
        energy = float(torch.stack([energies[0] for energies, _ in members]).detach().mean())
        forces = torch.stack([forces for _, forces in members]).detach().to("cpu", torch.float64).mean(0)
        return Evaluation(energy, forces.numpy())

    return evaluate


def parity_variants(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames, each followed by a copy without its last atom, for odd and even numbers of atoms."""
    variants = []
    for frame in frames:
        variants.append(frame)
        if len(frame.species) > 2:
            variants.append(
                replace(frame, species=frame.species[:-1], positions=frame.positions[:-1], forces=frame.forces[:-1])
            )
    return variants


def charge_variants(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames, and copies of the first frame with other charges and spins."""
    states = ((1.0, 1.0), (-1.0, 0.0))
    copies = [replace(frames[0], charge=charge, unpaired_electrons=unpaired) for charge, unpaired in states]
    return [*frames, *copies] if frames else []


def verify(
    potential: ExportedPotential,
    expected: Sequence[Expected],
    calls: Callable[[ExportedPotential], list[Evaluate]] = entry_points,
) -> Verification:
    """Compare a potential with expected results of the eager model.

    Args:
        potential: Exported potential.
        expected: Structures with the results of the eager model.
        calls: Function that returns one evaluation per entry point of a potential.

    Raises:
        ExportError: There are no structures, or a difference exceeds its tolerance.
    """
    if not expected:
        raise ExportError(
            "the trained file contains no structures for the verification of an export: train the model again"
        )
    result = _compare(expected, calls(potential), str(potential.info["dtype"]), potential.has_stress)
    if not result.passed:
        raise ExportError(
            "the exported potential disagrees with the model, so nothing is written (please report this as a bug): "
            + "; ".join(result.lines())
        )
    return result


def carried_structures(expected: Sequence[Expected]) -> list[dict[str, Any]]:
    """Return the smallest structures and their eager results in the form stored in the description of a file."""
    return [
        {
            "species": entry.frame.species.tolist(),
            "positions": entry.frame.positions.tolist(),
            "cell": entry.frame.cell.tolist(),
            "pbc": list(entry.frame.pbc),
            "energy": entry.reference.energy,
            "forces": entry.reference.forces.tolist(),
            "rounding": entry.rounding,
            **entry.frame.charge_spin.info(),
        }
        for entry in sorted(expected, key=lambda entry: len(entry.frame.species))[:_CARRIED]
    ]


def verify_here(potential: ExportedPotential) -> Verification:
    """Compare a loaded file with its stored eager results.

    Raises:
        ModelFileError: A difference on this machine exceeds its tolerance.
    """
    expected = []
    for entry in potential.info["check"]:
        species, forces = np.array(entry["species"]), np.array(entry["forces"])
        pbc = (bool(entry["pbc"][0]), bool(entry["pbc"][1]), bool(entry["pbc"][2]))
        frame = Frame(
            species,
            np.array(entry["positions"]),
            float("nan"),
            forces * np.nan,
            np.array(entry["cell"]),
            pbc,
            charge=float(entry.get("charge", NOT_STATED)),
            unpaired_electrons=float(entry.get("unpaired_electrons", NOT_STATED)),
        )
        reference = Evaluation(float(entry["energy"]), forces)
        expected.append(Expected(frame, reference, float(entry["rounding"])))
    result = _compare(expected, entry_points(potential), str(potential.info["dtype"]), potential.has_stress)
    if not result.passed:
        raise ModelFileError(
            f"{potential.path}: the results on this machine differ from the results at export "
            f"({'; '.join(result.lines())}): export the model again on this machine"
        )
    return result


def _compare(expected: Sequence[Expected], calls: Sequence[Evaluate], dtype: str, has_stress: bool) -> Verification:
    """Return the largest differences over all entry points and structures, after a warm-up."""
    rng, tolerance = np.random.default_rng(0), TOLERANCES[dtype]
    energy = force = 0.0
    difference: float | None = None
    strained: float | None = None
    for call in calls:
        for _ in range(_WARM_UP):
            call(expected[0].frame)
        for entry in expected:
            frame, reference = entry.frame, entry.reference
            result = call(frame)
            energy = _worst(energy, abs(result.energy - reference.energy) / len(frame.species))
            deviation = float(np.abs(result.forces - reference.forces).max())
            exceeds = not deviation <= tolerance.force
            force = _worst(force, deviation - 2.0 * entry.rounding if exceeds else deviation)
            if not has_stress:
                continue  # Direct forces are not derivatives of the energy.
            moved, deformed = _slopes(call, frame, result, dtype, rng)
            if not (moved <= tolerance.finite_difference and (deformed or 0.0) <= tolerance.finite_strain):
                # Norms of features that vanish by symmetry bend the energy within a step of the finite differences.
                aside = replace(frame, positions=frame.positions + rng.normal(0.0, _RATTLE, frame.positions.shape))
                moved, deformed = _slopes(call, aside, call(aside), dtype, rng)
            difference = _worst(difference, moved)
            if deformed is not None:
                strained = _worst(strained, deformed)
    return Verification(len(expected), energy, force, difference, strained, tolerance)


def _slopes(
    call: Evaluate, frame: Frame, result: Evaluation, dtype: str, rng: np.random.Generator
) -> tuple[float, float | None]:
    """Return the differences of forces and virial from finite differences, in the units of `Tolerance`.

    The result of the frame is given. The second difference is None without a virial.
    """
    tolerance, n_atoms = TOLERANCES[dtype], len(frame.species)
    scale = max(1.0, float(np.abs(result.forces).max()) / _LARGE_FORCE)
    direction = rng.normal(size=frame.positions.shape)
    direction /= np.linalg.norm(direction)
    slope, limit = -float((result.forces * direction).sum()), scale * tolerance.finite_difference
    moved = _mismatch(partial(_energy_moved, call, frame, direction), _STEP[dtype], slope, limit) / scale
    if result.virial is None:
        return moved, None
    along = rng.normal(size=(3, 3))
    along = (along + along.T) / np.linalg.norm(along + along.T)
    slope, limit = -float((result.virial * along).sum()), scale * n_atoms * tolerance.finite_strain
    deformed = _mismatch(partial(_energy_strained, call, frame, along), _STRAIN[dtype], slope, limit)
    return moved, deformed / n_atoms / scale


def _worst(so_far: float | None, value: float) -> float:
    """Return the larger of two values, or NaN if one of them is NaN."""
    return value if so_far is None or np.isnan(value) or value > so_far else so_far


def _mismatch(energy: Callable[[float], float], step: float, expected: float, limit: float) -> float:
    """Return the difference between an expected slope and a central difference of the energy at 0.

    The central difference has an error of second order in the step, which is large for the steep repulsion of close
    atoms. If the difference exceeds the limit, a step twice as long shows this error, and it is subtracted.

    Args:
        energy: Energy as a function of the distance along a direction.
        step: Half of the distance between the two points.
        expected: Expected slope.
        limit: Largest difference that is not examined further.
    """
    slope = _central(energy, step)
    if abs(slope - expected) > limit:
        slope += (slope - _central(energy, 2.0 * step)) / 3.0
    return abs(slope - expected)


def _central(energy: Callable[[float], float], step: float) -> float:
    return (energy(step) - energy(-step)) / (2.0 * step)


def _energy_moved(call: Evaluate, frame: Frame, direction: FloatArray, length: float) -> float:
    """Return the energy of a frame whose atoms are displaced along vectors (n, 3)."""
    return call(replace(frame, positions=frame.positions + length * direction)).energy


def _energy_strained(call: Evaluate, frame: Frame, along: FloatArray, length: float) -> float:
    """Return the energy of a frame whose positions and cell are deformed along a strain (3, 3)."""
    deformation = np.eye(3) + length * along
    deformed = replace(frame, positions=frame.positions @ deformation, cell=frame.cell @ deformation)
    return call(deformed).energy
