"""Comparing an exported potential with the eager model: before it is written, and where it is loaded.

Compiled models have given wrong numbers elsewhere: for odd numbers of atoms, for a second molecule, after a warm-up. So
every way into a program is tried on several structures, after a warm-up, against the eager potential with
neighbors from vesin, and its forces and virial against differences of its energy.

In float32 some structures magnify rounding, such as crystals where features vanish by symmetry: there forces may differ
by twice what the eager model in float32 differs from itself in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ExportError, ModelFileError
from piwsl.export.evaluation import Evaluation, bind
from piwsl.export.exported_file import ExportedPotential
from piwsl.export.replica_evaluation import BoundReplicas, bind_replicas
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray
from piwsl.units import KJ_PER_MOL, NANOMETER

Evaluate = Callable[[Frame], Evaluation]


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences: eV/atom, eV/angstrom, and of central differences (eV/angstrom, eV/atom)."""

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
    """Largest differences found, in the units of `Tolerance`; None where there is nothing to compare."""

    structures: int
    energy_per_atom: float
    force: float
    finite_difference: float | None
    finite_strain: float | None
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether every figure is finite and within its tolerance."""
        return all(np.isfinite(found) and found <= limit for _, found, limit, _ in self._figures())

    def lines(self) -> list[str]:
        """The figures as text."""
        return [f"{name:26}{found:.1e} {unit} (at most {limit:.0e})" for name, found, limit, unit in self._figures()]

    def _figures(self) -> list[tuple[str, float, float, str]]:
        limits = self.tolerance
        figures = [
            ("energy against eager", self.energy_per_atom, limits.energy_per_atom, "eV/atom"),
            ("forces against eager", self.force, limits.force, "eV/A"),
            ("forces against -dE/dx", self.finite_difference, limits.finite_difference, "eV/A"),
            ("virial against -dE/d(eps)", self.finite_strain, limits.finite_strain, "eV/atom"),
        ]
        return [(name, found, limit, unit) for name, found, limit, unit in figures if found is not None]


@dataclass(frozen=True)
class Expected:
    """What the eager model says of a structure, and how far rounding takes its forces, eV/angstrom."""

    frame: Frame
    said: Evaluation
    rounding: float


def expectations(frames: Sequence[Frame], yardstick: Evaluate, exact: Evaluate) -> list[Expected]:
    """What a yardstick says of structures; ``exact`` is the same model in float64."""
    found = []
    for frame in frames:
        said = yardstick(frame)
        found.append(Expected(frame, said, float(np.abs(said.forces - exact(frame).forces).max())))
    return found


def eager(potentials: Sequence[Potential], cutoff: float, dtype: torch.dtype = torch.float64) -> Evaluate:
    """The mean of eager potentials with neighbor lists from vesin, as the yardstick."""

    def evaluate(frame: Frame) -> Evaluation:
        batch = collate([frame], cutoff, dtype).to(potentials[0].scale.device)
        found = [potential(*batch.graph) for potential in potentials]
        energy = float(torch.stack([energies[0] for energies, _ in found]).detach().mean())
        forces = torch.stack([forces for _, forces in found]).detach().to("cpu", torch.float64).mean(0)
        return Evaluation(energy, forces.numpy())

    return evaluate


def entry_points(potential: ExportedPotential) -> list[Evaluate]:
    """Every way a program is called: through its core, and as other programs call a TorchScript module."""
    if potential.copies > 1:
        return entry_points_of_copies(potential)

    def bound(frame: Frame) -> Evaluation:
        return bind(potential, frame.species, frame.pbc)(frame.positions, frame.cell if any(frame.pbc) else None)

    if potential.format == "aotinductor":
        return [bound]
    return [bound, _openmm_call(potential) if potential.target == "openmm" else _general_call(potential)]


def parity_variants(frames: Sequence[Frame]) -> list[Frame]:
    """Frames, each followed by itself without its last atom: odd and even numbers, other molecules."""
    variants = []
    for frame in frames:
        variants.append(frame)
        if len(frame.species) > 2:
            variants.append(
                replace(frame, species=frame.species[:-1], positions=frame.positions[:-1], forces=frame.forces[:-1])
            )
    return variants


def verify(potential: ExportedPotential, expected: Sequence[Expected]) -> Verification:
    """Compare with the eager model on real structures.

    Raises:
        ExportError: there is no structure to compare on, or a figure is above its tolerance.
    """
    if not expected:
        raise ExportError("the trained file holds no structures to verify an export on: train it again")
    result = _compare(potential, expected)
    if not result.passed:
        raise ExportError("the exported form disagrees with the model and is not written: " + "; ".join(result.lines()))
    return result


def carried_structures(expected: Sequence[Expected]) -> list[dict[str, Any]]:
    """The smallest structures with what the eager model says of them, as the description stores them."""
    return [
        {
            "species": one.frame.species.tolist(),
            "positions": one.frame.positions.tolist(),
            "cell": one.frame.cell.tolist(),
            "pbc": list(one.frame.pbc),
            "energy": one.said.energy,
            "forces": one.said.forces.tolist(),
            "rounding": one.rounding,
        }
        for one in sorted(expected, key=lambda one: len(one.frame.species))[:_CARRIED]
    ]


def verify_here(potential: ExportedPotential) -> Verification:
    """Compare a loaded file with what the eager model said of the structures inside it.

    Raises:
        ModelFileError: it gives other numbers here.
    """
    expected = []
    for entry in potential.info["check"]:
        species, forces = np.array(entry["species"]), np.array(entry["forces"])
        pbc = (bool(entry["pbc"][0]), bool(entry["pbc"][1]), bool(entry["pbc"][2]))
        frame = Frame(
            species, np.array(entry["positions"]), float("nan"), forces * np.nan, np.array(entry["cell"]), pbc
        )
        said = Evaluation(float(entry["energy"]), forces)
        expected.append(Expected(frame, said, float(entry["rounding"])))
    result = _compare(potential, expected)
    if not result.passed:
        raise ModelFileError(
            f"{potential.path} gives other numbers here than where it was made ({'; '.join(result.lines())}): "
            "export it again on this machine"
        )
    return result


def _compare(potential: ExportedPotential, expected: Sequence[Expected]) -> Verification:
    dtype = str(potential.info["dtype"])
    rng, step, strain = np.random.default_rng(0), _STEP[dtype], _STRAIN[dtype]
    energy = force = 0.0
    difference: float | None = None
    strained: float | None = None
    for call in entry_points(potential):
        for _ in range(_WARM_UP):
            call(expected[0].frame)
        for one in expected:
            frame, said = one.frame, one.said
            found, n_atoms = call(frame), len(frame.species)
            energy = _worst(energy, abs(found.energy - said.energy) / n_atoms)
            off = float(np.abs(found.forces - said.forces).max())
            force = _worst(force, off if off <= TOLERANCES[dtype].force else off - 2.0 * one.rounding)
            if not potential.has_stress:
                continue  # forces with a head of their own are no derivatives
            direction = rng.normal(size=frame.positions.shape)
            direction /= np.linalg.norm(direction)
            ahead, behind = (call(_moved(frame, sign * step * direction)).energy for sign in (1.0, -1.0))
            slope = (ahead - behind) / (2.0 * step)
            difference = _worst(difference, abs(slope + float((found.forces * direction).sum())))
            if found.virial is not None:
                along = rng.normal(size=(3, 3))
                along = (along + along.T) / np.linalg.norm(along + along.T)
                ahead, behind = (call(_strained(frame, sign * strain * along)).energy for sign in (1.0, -1.0))
                slope = (ahead - behind) / (2.0 * strain)
                strained = _worst(strained, abs(slope + float((found.virial * along).sum())) / n_atoms)
    return Verification(len(expected), energy, force, difference, strained, TOLERANCES[dtype])


def _general_call(potential: ExportedPotential) -> Evaluate:
    def evaluate(frame: Frame) -> Evaluation:
        cell = torch.from_numpy(frame.cell) if any(frame.pbc) else None
        inputs = (torch.from_numpy(frame.species), torch.from_numpy(frame.positions), cell, torch.tensor(frame.pbc))
        device = potential.device
        found = potential.program(*(None if one is None else one.to(device) for one in inputs))
        virial = _array(found["virial"]) if potential.has_stress else None
        return Evaluation(float(found["energy"]), _array(found["forces"]), virial)

    return evaluate


def _openmm_call(potential: ExportedPotential) -> Evaluate:
    def evaluate(frame: Frame) -> Evaluation:
        inputs = [torch.from_numpy(frame.positions / NANOMETER).to(potential.device)]
        if any(frame.pbc):
            inputs.append(torch.from_numpy(frame.cell / NANOMETER).to(potential.device))
        energy, forces = potential.program(*inputs)
        return Evaluation(float(energy) * KJ_PER_MOL, _array(forces) * (KJ_PER_MOL / NANOMETER))

    return evaluate


def _array(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().to("cpu", torch.float64).numpy()
    return array


def _worst(so_far: float | None, value: float) -> float:
    """The larger of two figures, where NaN is the worst of all."""
    return value if so_far is None or np.isnan(value) or value > so_far else so_far


def _moved(frame: Frame, displacement: FloatArray) -> Frame:
    return replace(frame, positions=frame.positions + displacement)


def _strained(frame: Frame, strain: FloatArray) -> Frame:
    deformation = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ deformation, cell=frame.cell @ deformation)


# Displacements of the copies beside the one that is looked at, angstrom.
_APART = 0.03

Together = Callable[[FloatArray], tuple[float, FloatArray]]


def entry_points_of_copies(potential: ExportedPotential) -> list[Callable[[Frame], Evaluation]]:
    """Each copy by itself, as the engines for replicas see it, and all of them as OpenMM gets them."""
    bound = bind_replicas(potential, np.array(potential.molecule))
    together = _together if potential.format == "aotinductor" else _in_openmm
    return [_one_of_the_copies(potential, bound), _one_share(potential, bound, together(potential))]


def _one_of_the_copies(potential: ExportedPotential, bound: BoundReplicas) -> Callable[[Frame], Evaluation]:
    calls = count()

    def evaluate(frame: Frame) -> Evaluation:
        place = next(calls) % potential.copies
        positions = torch.from_numpy(_places(frame, place, potential.copies)).to(potential.device)
        found = bound(positions)
        return Evaluation(float(found.energies[place]), found.forces[place].cpu().numpy())

    return evaluate


def _one_share(potential: ExportedPotential, bound: BoundReplicas, together: Together) -> Callable[[Frame], Evaluation]:
    """What one copy adds to the energy of all, and its forces."""
    calls = count()

    def evaluate(frame: Frame) -> Evaluation:
        place = next(calls) % potential.copies
        places = _places(frame, place, potential.copies)
        energy, forces = together(places.reshape(-1, 3))
        energies = bound(torch.from_numpy(places).to(potential.device)).energies
        return Evaluation(energy - float(energies.sum() - energies[place]), forces.reshape(places.shape)[place])

    return evaluate


def _together(potential: ExportedPotential) -> Together:
    evaluate = bind(potential)

    def call(positions: FloatArray) -> tuple[float, FloatArray]:
        found = evaluate(positions)
        return found.energy, found.forces

    return call


def _in_openmm(potential: ExportedPotential) -> Together:
    def call(positions: FloatArray) -> tuple[float, FloatArray]:
        energy, forces = potential.program(torch.from_numpy(positions / NANOMETER).to(potential.device))
        return float(energy) * KJ_PER_MOL, forces.to("cpu", torch.float64).numpy() * (KJ_PER_MOL / NANOMETER)

    return call


def _places(frame: Frame, place: int, copies: int) -> FloatArray:
    """Positions (R, n, 3): the frame in one place, and displaced in all others."""
    displaced: FloatArray = np.random.default_rng(place).normal(0.0, _APART, (copies, len(frame.species), 3))
    displaced[place] = 0.0
    return frame.positions + displaced
