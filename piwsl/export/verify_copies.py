"""The ways into a program that evaluates several copies of a molecule, each as if it were for one molecule.

A structure takes the place of one copy, another one at every call, and the other places are filled with the same
molecule at other positions. So copies that see each other, change places or are lost give other numbers than the eager
model.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
import torch

from piwsl.data.frames import Frame
from piwsl.export.evaluation import Evaluation, bind
from piwsl.export.exported import ExportedPotential
from piwsl.export.replicas import BoundReplicas, bind_replicas
from piwsl.typing import FloatArray
from piwsl.units import KJ_PER_MOL, NANOMETER

# Displacements of the copies beside the one that is looked at, angstrom.
_APART = 0.03

Together = Callable[[FloatArray], tuple[float, FloatArray]]


def ways_into_copies(potential: ExportedPotential) -> list[Callable[[Frame], Evaluation]]:
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
