"""Evaluation of a prediction request at minimal cost.

Forces with a graph for training cost about three times as much as energies. Therefore, they are computed only at points
where a term requires them. The work along a single step requires no forces, because it is a directional derivative of
the energy, which is computed in forward mode. Points with equal requirements share one batched call of the network.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.curvature import hessian_product
from piwsl.losses.forward_mode import directional_derivative
from piwsl.losses.predictions import ORIGIN, PointPredictions, PredictionRequest, Work
from piwsl.models.potential import DirectPotential, Potential


def evaluate(
    potential: Potential | DirectPotential,
    batch: Batch,
    displacements: Sequence[Tensor],
    request: PredictionRequest,
    directions: Tensor | None = None,
) -> PointPredictions:
    """Evaluate a potential on a batch and its displaced copies. All results are differentiable for training.

    Args:
        potential: Potential, with or without a force head.
        batch: Structures, with edges that exceed the cutoff by twice the largest displacement.
        displacements: Displacements (N, 3) of each copy, angstrom.
        request: Required energies, forces, works, stress and curvature.
        directions: Directions (N, 3) of the curvature; None if it is not required.

    Returns:
        Predictions that contain at least the requested quantities.
    """
    if not request.points:
        points = PointPredictions(displacements, batch.structure_index, batch.n_atoms)
    elif isinstance(potential, DirectPotential):
        points = _direct(potential, batch, displacements, request)
    else:
        points = _conservative(potential, batch, displacements, request)
    if request.curvature:
        assert directions is not None
        points = replace(points, curvature=hessian_product(potential, batch, directions))
    return points


def _direct(
    potential: DirectPotential, batch: Batch, displacements: Sequence[Tensor], request: PredictionRequest
) -> PointPredictions:
    copies = batch.copies([None, *displacements], request.points)
    edge_vectors, strain = copies.edge_vectors(), None
    if request.stress:  # There is no stress head, so the stress is a derivative of the energy.
        edge_vectors, strain = _strained(copies, edge_vectors)
    energies, forces = potential.energies_and_forces_of_edges(
        copies.species, copies.edges, edge_vectors, copies.structure_index, copies.n_structures, *copies.states
    )
    stress = None
    if strain is not None:
        (virial,) = torch.autograd.grad([energies.sum()], [strain], create_graph=True)
        stress = _stress(virial, copies)[: batch.n_structures]  # the structures precede their copies
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
        values, gradients, stress = _forces(potential, batch.copies(everywhere, with_forces), request.stress)
        energies.update(zip(with_forces, values.chunk(len(with_forces)), strict=True))
        forces.update(zip(with_forces, gradients.chunk(len(with_forces)), strict=True))
        if stress is not None:
            stress = stress.chunk(len(with_forces))[with_forces.index(ORIGIN)]
    if single:
        steps = torch.cat([points.step(work.start, work.end) for work in single.values()])
        values, along = _directional(potential, batch.copies(everywhere, list(single)), steps)
        energies.update(zip(single, values.chunk(len(single)), strict=True))
        for work, value in zip(single.values(), along.chunk(len(single)), strict=True):
            works[work] = value
            works[work.reverse] = -value
    if with_energy:
        values = potential.energies(*batch.copies(everywhere, with_energy).graph)
        energies.update(zip(with_energy, values.chunk(len(with_energy)), strict=True))
    return PointPredictions(displacements, batch.structure_index, batch.n_atoms, energies, forces, works, stress)


def _plan(request: PredictionRequest) -> tuple[list[int], dict[int, Work]]:
    """Return the points that require forces, and the works at points that require only a single work."""
    with_forces = {*request.forces, *([ORIGIN] if request.stress else [])}
    single: dict[int, Work] = {}
    for work in sorted(request.works):
        known = single.get(work.point)
        if known is not None and known not in (work, work.reverse):
            with_forces.add(work.point)
        single.setdefault(work.point, work)
    return sorted(with_forces), {point: work for point, work in single.items() if point not in with_forces}


def _forces(potential: Potential, batch: Batch, with_stress: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return energies, forces and, if requested, the stress, computed in reverse mode."""
    positions = batch.positions.detach().requires_grad_(True)
    if not with_stress:
        energies = potential.energies(*batch.moved(positions).graph)
        (gradient,) = torch.autograd.grad([energies.sum()], [positions], create_graph=True)
        return energies, -gradient, None
    edge_vectors, strain = _strained(batch, batch.moved(positions).edge_vectors())
    energies = potential.energies_of_edges(
        batch.species, batch.edges, edge_vectors, batch.structure_index, batch.n_structures, *batch.states
    )
    gradient, virial = torch.autograd.grad([energies.sum()], [positions, strain], create_graph=True)
    return energies, -gradient, _stress(virial, batch)


def _strained(batch: Batch, edge_vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return edge vectors (E, 3) as functions of a symmetric strain, and the strain (S, 3, 3) of each structure."""
    strain = edge_vectors.new_zeros((batch.n_structures, 3, 3), requires_grad=True)
    symmetric = 0.5 * (strain + strain.transpose(1, 2))[batch.structure_index[batch.edges[0]]]
    return edge_vectors + symmetric.matmul(edge_vectors.unsqueeze(-1)).squeeze(-1), strain


def _stress(virial: Tensor, batch: Batch) -> Tensor:
    return virial / batch.volume.view(-1, 1, 1).to(virial.dtype)


def _directional(potential: Potential, batch: Batch, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return energies (S,) and works sum_i step_i . F_i (S,), computed in forward mode."""
    energies, change = directional_derivative(
        lambda positions: potential.energies(*batch.moved(positions).graph), batch.positions, steps
    )
    return energies, -change
