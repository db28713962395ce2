"""Potentials with known properties for tests of the losses: analytic fields, and small random networks in float64."""

import torch
from torch import nn

from piwsl.models import ModelConfig, build_potential
from piwsl.models.networks.radial import PolynomialCutoff
from piwsl.models.potential import DirectPotential, Potential

ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0, 18: -500.0}
STIFFNESS = torch.tensor([[3.0, 0.4, 0.1], [0.4, 2.0, -0.3], [0.1, -0.3, 1.0]], dtype=torch.float64)
TURN = torch.tensor([0.7, -0.4, 0.5], dtype=torch.float64)


class PairNetwork(nn.Module):
    """Energy network of a pair energy f(edge vectors) -> (E,); each atom has half of its pairs."""

    def __init__(self, pair_energy):
        super().__init__()
        self.pair_energy = pair_energy

    def forward(self, species, edges, edge_vectors, structure_index):
        halves = 0.5 * self.pair_energy(edge_vectors)
        return halves.new_zeros(len(species)).index_add(0, edges[0], halves)


class SpringsWithHead(nn.Module):
    """The springs of `springs` with forces of their own: the exact ones and ``curl`` times a field without energy."""

    def __init__(self, curl):
        super().__init__()
        self.curl = curl

    def forward(self, species, edges, edge_vectors, structure_index):
        energies = PairNetwork(spring_energy)(species, edges, edge_vectors, structure_index)
        pulls = edge_vectors @ STIFFNESS + self.curl * torch.linalg.cross(TURN.expand_as(edge_vectors), edge_vectors)
        return energies, torch.zeros(len(species), 3, dtype=pulls.dtype).index_add(0, edges[0], pulls)


def spring_energy(edge_vectors):
    """Springs of zero length: exactly quadratic in the positions."""
    return 0.5 * ((edge_vectors @ STIFFNESS) * edge_vectors).sum(-1)


def conservative(pair_energy):
    return Potential(PairNetwork(pair_energy), [1], [0.0])


def springs():
    return conservative(spring_energy)


def curling_springs(curl=1.0):
    return DirectPotential(SpringsWithHead(curl), [1], [0.0])


def morse(depth=1.0, width=1.3, length=1.2):
    return conservative(lambda e: depth * (1.0 - torch.exp(-width * (e.norm(dim=-1) - length))) ** 2)


def truncated_morse(cutoff):
    """Ends at the cutoff with a jump: whoever misses a neighbor, or counts one too many, is found out."""

    def energy(edge_vectors):
        distances = edge_vectors.norm(dim=-1)
        return torch.where(distances < cutoff, (1.0 - torch.exp(-1.3 * (distances - 1.2))) ** 2, 0.0)

    return conservative(energy)


def lennard_jones(cutoff):
    """Argon, eV and angstrom, brought to zero at the cutoff with two continuous derivatives."""
    switch = PolynomialCutoff(cutoff)

    def energy(edge_vectors):
        distances = edge_vectors.norm(dim=-1)
        return 4.0 * 0.0104 * ((3.4 / distances) ** 12 - (3.4 / distances) ** 6) * switch(distances)

    return conservative(energy)


def painn(forces="conservative", cutoff=3.0, channels=8, layers=2, seed=0):
    """A small random PaiNN in float64, its weights large enough for a rough surface."""
    torch.manual_seed(seed)
    config = ModelConfig(cutoff=cutoff, channels=channels, layers=layers, radial_size=6, forces=forces)
    made = build_potential(config, ENERGIES, scale=1.7)
    made.network.double()
    return made
