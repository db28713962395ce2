"""Potentials that break one law each, and keep those that are checked before it."""

import torch
from torch import nn

from piwsl.models.networks.radial import PolynomialCutoff
from piwsl.models.potential import Potential
from tests.support.potentials import ENERGIES, PairNetwork, painn

CUTOFF = 3.0
HONEST = painn(cutoff=CUTOFF)


def switched(pair_energy, switch=None):
    """A conservative potential of a pair energy times a switch (of distances); the native one by default."""
    switch = switch or PolynomialCutoff(CUTOFF)

    def energy(edge_vectors):
        distances = edge_vectors.norm(dim=-1)
        return pair_energy(edge_vectors, distances) * switch(distances)

    return Potential(PairNetwork(energy), list(ENERGIES), list(ENERGIES.values()))


def inside(distances):
    """1 - r / cutoff, zero beyond."""
    return (1.0 - distances / CUTOFF).clamp(min=0.0)


class WithExtra(nn.Module):
    """The honest potential and an energy more, whose forces are right: extra(species, positions, edges, index)."""

    def __init__(self, extra):
        super().__init__()
        self.honest, self.extra = HONEST, extra

    def forward(self, species, positions, edges, edge_shifts, structure_index, n_structures):
        positions = positions.detach().requires_grad_(True)
        atomic = self.extra(species, positions, edges, structure_index).to(torch.float64) + 0.0 * positions.sum()
        more = atomic.new_zeros(n_structures).index_add(0, structure_index, atomic)
        energies, forces = self.honest(species, positions, edges, edge_shifts, structure_index, n_structures)
        (gradient,) = torch.autograd.grad(more.sum(), positions)
        return energies + more, forces - gradient


def absolute(species, positions, edges, index):
    return positions[:, 0]


def along_z(species, positions, edges, index):
    vectors = positions[edges[1]] - positions[edges[0]]
    distances = vectors.norm(dim=-1)
    halves = vectors[:, 2] ** 2 * inside(distances) ** 3
    return torch.zeros_like(positions[:, 0]).index_add(0, edges[0], halves)


def handed(species, positions, edges, index):
    """The signed volume that three moments of the neighbors span: a rotation keeps it, a mirror image has -1 of it."""
    vectors = positions[edges[1]] - positions[edges[0]]
    distances = vectors.norm(dim=-1, keepdim=True)
    zeros = torch.zeros_like(positions)
    moments = [zeros.index_add(0, edges[0], vectors * distances**k * inside(distances) ** 3) for k in range(3)]
    return torch.linalg.det(torch.stack(moments, dim=1))


def by_number(species, positions, edges, index):
    """Another energy for the first atom of each structure than for the others."""
    return torch.cat([index.new_ones(1), index.diff()]) * torch.where(species == 1, 0.1, 0.2)


def per_structure(species, positions, edges, index):
    """A mean instead of a sum: the same for each structure, however large."""
    return (1.0 / torch.bincount(index).to(positions.dtype))[index]


def per_batch(species, positions, edges, index):
    """Right for a structure alone."""
    return torch.full_like(positions[:, 0], float(index.max()))


def in_pairs(species, positions, edges, index):
    """The last atom of an odd number is forgotten."""
    weights = torch.ones_like(positions[:, 0])
    weights[len(weights) // 2 * 2 :] = 0.0
    return weights


class RoundedElements(Potential):
    """Takes the energies of the elements in the type of the network: up to 1 meV an atom is lost in float32."""

    def energies_of_edges(self, species, edges, edge_vectors, structure_index, n_structures, charge_spin=None):
        atomic = self.network(species, edges, edge_vectors, structure_index)
        atomic = atomic.to(torch.float64) + self.reference_energies.to(atomic.dtype)[species]
        return atomic.new_zeros(n_structures).index_add(0, structure_index, atomic)


class ForgetsItsDevice(nn.Module):
    """Makes a tensor of its own where PyTorch likes."""

    def forward(self, species, positions, edges, edge_shifts, structure_index, n_structures):
        energies = torch.zeros(n_structures, dtype=torch.float64, device=positions.device)
        return energies, 0.0 * positions + torch.zeros(len(species), 3, dtype=positions.dtype)


class ResultsOnCPU(nn.Module):
    """Hands its energies back on the processor."""

    def forward(self, species, positions, edges, edge_shifts, structure_index, n_structures):
        return torch.zeros(n_structures, dtype=torch.float64), 0.0 * positions


class ChangesWhenMoved(nn.Module):
    """Other weights than before, once it has been moved."""

    def __init__(self):
        super().__init__()
        self.moves = 0

    def _apply(self, function, recurse=True):
        self.moves += 1
        return super()._apply(function, recurse)

    def forward(self, *inputs):
        energies, forces = HONEST(*inputs)
        return energies + self.moves, forces
