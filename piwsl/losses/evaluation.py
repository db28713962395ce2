"""How a potential is asked for what the loss terms want, at the least cost.

Energies are cheap; forces that are differentiated again for training cost about three times as much. So forces are
made only at the points where someone needs them. A work along a single step needs no forces: it is a directional
derivative of the energy, taken in forward mode. Points that need the same go through the network in one batched call.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.forward_mode import directional_derivative
from piwsl.losses.points import PointPredictions
from piwsl.losses.request import ORIGIN, PredictionRequest, Work
from piwsl.models.potential import DirectPotential, Potential


def evaluate(
    potential: Potential | DirectPotential, batch: Batch, displacements: Sequence[Tensor], request: PredictionRequest
) -> PointPredictions:
    """What is requested of a batch and its displaced copies; everything can be differentiated for training.

    Args:
        potential: conservative, or with forces of its own.
        batch: structures, with edges that reach far enough for the displacements.
        displacements: (N, 3) of each copy, angstrom.
        request: what is wanted.
    """
    if not request.points:
        return PointPredictions(displacements, batch.structure_index, batch.n_atoms)
    if isinstance(potential, DirectPotential):
        return _direct(potential, batch, displacements, request)
    return _conservative(potential, batch, displacements, request)


def _direct(
    potential: DirectPotential, batch: Batch, displacements: Sequence[Tensor], request: PredictionRequest
) -> PointPredictions:
    copies = batch.copies([None, *displacements], request.points)
    edge_vectors, strain = copies.edge_vectors(), None
    if request.stress:  # there is no head for it: the derivative of the energy
        edge_vectors, strain = _strained(copies, edge_vectors)
    energies, forces = potential.energies_and_forces_of_edges(
        copies.species, copies.edges, edge_vectors, copies.structure_index, copies.n_structures
    )
    stress = None
    if strain is not None:
        (virial,) = torch.autograd.grad([energies.sum()], [strain], create_graph=True)
        stress = _stress(virial, copies)[: batch.n_structures]  # the structures themselves come first
    count = len(request.points)
    return PointPredictions(
        displacements=displacements,
        structure_index=batch.structure_index,
        n_atoms=batch.n_atoms,
        energies=dict(zip(request.points, energies.chunk(count), strict=True)),
        forces=dict(zip(request.points, forces.chunk(count), strict=True)),
        stress=stress,
    )


def _conservative(
    potential: Potential, batch: Batch, displacements: Sequence[Tensor], request: PredictionRequest
) -> PointPredictions:
    with_forces, single = _plan(request)
    with_energy = [p for p in request.points if p not in with_forces and p not in single]
    points = PointPredictions(displacements, batch.structure_index, batch.n_atoms)
    energies, forces, works = dict(points.energies), dict(points.forces), dict(points.works)
    everywhere: list[Tensor | None] = [None, *displacements]
    stress = None
    if with_forces:
        found, gradients, stress = _forces(potential, batch.copies(everywhere, with_forces), request.stress)
        energies.update(zip(with_forces, found.chunk(len(with_forces)), strict=True))
        forces.update(zip(with_forces, gradients.chunk(len(with_forces)), strict=True))
        if stress is not None:
            stress = stress.chunk(len(with_forces))[with_forces.index(ORIGIN)]
    if single:
        steps = torch.cat([points.step(work.start, work.end) for work in single.values()])
        found, along = _directional(potential, batch.copies(everywhere, list(single)), steps)
        energies.update(zip(single, found.chunk(len(single)), strict=True))
        for work, value in zip(single.values(), along.chunk(len(single)), strict=True):
            works[work] = value
            works[work.reverse] = -value
    if with_energy:
        found = potential.energies(*batch.copies(everywhere, with_energy).graph)
        energies.update(zip(with_energy, found.chunk(len(with_energy)), strict=True))
    return PointPredictions(displacements, batch.structure_index, batch.n_atoms, energies, forces, works, stress)


def _plan(request: PredictionRequest) -> tuple[list[int], dict[int, Work]]:
    """Points that need forces, and those that need a single work with that work."""
    with_forces = {*request.forces, *([ORIGIN] if request.stress else [])}
    single: dict[int, Work] = {}
    for work in sorted(request.works):
        known = single.get(work.point)
        if known is not None and known not in (work, work.reverse):
            with_forces.add(work.point)
        single.setdefault(work.point, work)
    return sorted(with_forces), {point: work for point, work in single.items() if point not in with_forces}


def _forces(potential: Potential, batch: Batch, with_stress: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Energies, forces and, if asked for, stress, by differentiation in reverse mode."""
    positions = batch.positions.detach().requires_grad_(True)
    if not with_stress:
        energies = potential.energies(*batch.moved(positions).graph)
        (gradient,) = torch.autograd.grad([energies.sum()], [positions], create_graph=True)
        return energies, -gradient, None
    edge_vectors, strain = _strained(batch, batch.moved(positions).edge_vectors())
    energies = potential.energies_of_edges(
        batch.species, batch.edges, edge_vectors, batch.structure_index, batch.n_structures
    )
    gradient, virial = torch.autograd.grad([energies.sum()], [positions, strain], create_graph=True)
    return energies, -gradient, _stress(virial, batch)


def _strained(batch: Batch, edge_vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Edge vectors (E, 3) under a symmetric strain of each structure (S, 3, 3), which is zero, and the strain."""
    strain = edge_vectors.new_zeros((batch.n_structures, 3, 3), requires_grad=True)
    symmetric = 0.5 * (strain + strain.transpose(1, 2))[batch.structure_index[batch.edges[0]]]
    return edge_vectors + symmetric.matmul(edge_vectors.unsqueeze(-1)).squeeze(-1), strain


def _stress(virial: Tensor, batch: Batch) -> Tensor:
    return virial / batch.volume.view(-1, 1, 1).to(virial.dtype)


def _directional(potential: Potential, batch: Batch, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (S,) and works sum_i step_i . F_i (S,), by differentiation in forward mode."""
    energies, change = directional_derivative(
        lambda positions: potential.energies(*batch.moved(positions).graph), batch.positions, steps
    )
    return energies, -change
