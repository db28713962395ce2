"""All entry points of the program in an exported file, for the comparison with the eager model."""

from collections.abc import Callable
from itertools import count

import numpy as np
import torch

from piwsl.data.frames import Frame
from piwsl.export.evaluation import Evaluation, bind
from piwsl.export.exported_file import ExportedPotential
from piwsl.export.replica_evaluation import BoundReplicas, bind_replicas
from piwsl.typing import FloatArray
from piwsl.units import KJ_PER_MOL, NANOMETER

Evaluate = Callable[[Frame], Evaluation]


def entry_points(potential: ExportedPotential) -> list[Evaluate]:
    """Return one evaluation per entry point: the call by engines of piwsl, and the call by other programs."""
    if potential.copies > 1:
        return _entry_points_of_copies(potential)

    def bound(frame: Frame) -> Evaluation:
        evaluate = bind(potential, frame.species, frame.pbc, frame.charge_spin)
        return evaluate(frame.positions, frame.cell if any(frame.pbc) else None)

    if potential.format == "aotinductor":
        return [bound]
    return [bound, _openmm_call(potential) if potential.target == "openmm" else _general_call(potential)]


def _general_call(potential: ExportedPotential) -> Evaluate:
    def evaluate(frame: Frame) -> Evaluation:
        cell = torch.from_numpy(frame.cell) if any(frame.pbc) else None
        inputs = (torch.from_numpy(frame.species), torch.from_numpy(frame.positions), cell, torch.tensor(frame.pbc))
        device = potential.device
        states = (frame.charge, frame.unpaired_electrons) if potential.takes_charge else ()
        results = potential.program(*(None if tensor is None else tensor.to(device) for tensor in inputs), *states)
        virial = _array(results["virial"]) if potential.has_stress else None
        return Evaluation(float(results["energy"]), _array(results["forces"]), virial)

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


# Standard deviation of the displacements of all copies except the compared copy, angstrom.
_APART = 0.03

Together = Callable[[FloatArray], tuple[float, FloatArray]]
"""Function that maps positions (R n, 3) of all copies (angstrom) to their energy (eV) and forces (eV/angstrom)."""


def _entry_points_of_copies(potential: ExportedPotential) -> list[Evaluate]:
    """Return one evaluation per entry point of a file with several copies: single copies, and all copies at once."""
    bound = bind_replicas(potential, np.array(potential.molecule))
    together = _compiled_call if potential.format == "aotinductor" else _openmm_call_of_copies
    return [_single_copy(potential, bound), _copy_among_all(potential, bound, together(potential))]


def _single_copy(potential: ExportedPotential, bound: BoundReplicas) -> Evaluate:
    calls = count()

    def evaluate(frame: Frame) -> Evaluation:
        place = next(calls) % potential.copies
        positions = torch.from_numpy(_places(frame, place, potential.copies)).to(potential.device)
        results = bound(positions)
        return Evaluation(float(results.energies[place]), results.forces[place].cpu().numpy())

    return evaluate


def _copy_among_all(potential: ExportedPotential, bound: BoundReplicas, together: Together) -> Evaluate:
    """Return an evaluation that computes the contribution of one copy to the total energy, and its forces."""
    calls = count()

    def evaluate(frame: Frame) -> Evaluation:
        place = next(calls) % potential.copies
        places = _places(frame, place, potential.copies)
        energy, forces = together(places.reshape(-1, 3))
        energies = bound(torch.from_numpy(places).to(potential.device)).energies
        return Evaluation(energy - float(energies.sum() - energies[place]), forces.reshape(places.shape)[place])

    return evaluate


def _compiled_call(potential: ExportedPotential) -> Together:
    evaluate = bind(potential)

    def call(positions: FloatArray) -> tuple[float, FloatArray]:
        result = evaluate(positions)
        return result.energy, result.forces

    return call


def _openmm_call_of_copies(potential: ExportedPotential) -> Together:
    def call(positions: FloatArray) -> tuple[float, FloatArray]:
        energy, forces = potential.program(torch.from_numpy(positions / NANOMETER).to(potential.device))
        return float(energy) * KJ_PER_MOL, forces.to("cpu", torch.float64).numpy() * (KJ_PER_MOL / NANOMETER)

    return call


def _places(frame: Frame, place: int, copies: int) -> FloatArray:
    """Return positions (R, n, 3) in which one copy equals the frame and all other copies are displaced."""
    displaced: FloatArray = np.random.default_rng(place).normal(0.0, _APART, (copies, len(frame.species), 3))
    displaced[place] = 0.0
    return frame.positions + displaced
