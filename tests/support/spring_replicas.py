"""Harmonic springs for any number of replicas in one call, exact and quick, for tests of engines."""

import torch
from ase import Atoms
from torch import Tensor

from piwsl.export.replica_evaluation import BoundReplicas, ReplicaEvaluation


class SpringReplicas(BoundReplicas):
    """Springs between all atoms closer than 2.7 angstrom in a structure, as those of `tests.support.springs`."""

    def __init__(self, atoms: Atoms) -> None:
        self.n_atoms, self.members, self.chunk, self.threads = len(atoms), 1, 1, 1
        self.device = torch.device("cpu")
        distances = torch.from_numpy(atoms.get_all_distances())
        self.pairs = torch.triu((distances < 2.7).int(), diagonal=1).nonzero().t()
        self.lengths = distances[self.pairs[0], self.pairs[1]]
        self.constants = torch.where(self.lengths < 1.7, 25.0, 5.0).double()  # eV/angstrom^2
        self.evaluated = 0  # structures

    def __call__(self, positions: Tensor) -> ReplicaEvaluation:
        self.evaluated += len(positions)
        vectors = positions[:, self.pairs[1]] - positions[:, self.pairs[0]]
        distances = vectors.norm(dim=-1)
        off = distances - self.lengths
        pulls = (self.constants * off / distances).unsqueeze(-1) * vectors
        forces = torch.zeros_like(positions).index_add(1, self.pairs[0], pulls).index_add(1, self.pairs[1], -pulls)
        return ReplicaEvaluation(0.5 * (self.constants * off.square()).sum(1), forces)
