"""Small real molecules and cells, and a pair potential, that tests share."""

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

from piwsl.data.frames import Frame
from piwsl.losses.predictions import Prediction


def frame(name: str, rattle: float = 0.05, seed: int = 0, labeled: bool = False) -> Frame:
    """A molecule of ASE's G2 set, a little displaced from its minimum."""
    atoms = molecule(name)
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0.0, rattle, atoms.positions.shape)
    return _frame(atoms, rng, labeled)


def cell(rattle: float = 0.1, seed: int = 0, labeled: bool = False, repeat: tuple[int, int, int] = (1, 1, 1)) -> Frame:
    """A cubic cell of argon (4 atoms, 5.26 angstrom), a little displaced from its minimum, and a little sheared."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(repeat)
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0.0, rattle, atoms.positions.shape)
    shear = np.array([[1.0, 0.04, 0.0], [0.0, 1.0, 0.02], [0.0, 0.0, 1.0]])
    atoms.set_cell(atoms.cell.array @ shear, scale_atoms=True)
    return _frame(atoms, rng, labeled)


def oxide(labeled: bool = False) -> Frame:
    """A small triclinic cell of oxygen, carbon and hydrogen, for networks: smaller than their cutoff."""
    rng = np.random.default_rng(5)
    lattice = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [-0.2, 0.3, 2.9]])
    corners = np.array([[0.0, 0.0, 0.0], [0.5, 0.45, 0.1], [0.1, 0.5, 0.55]])
    atoms = Atoms([8, 6, 1], corners @ lattice + rng.normal(0.0, 0.05, (3, 3)), cell=lattice, pbc=True)
    return _frame(atoms, rng, labeled)


def _frame(atoms, rng, labeled):
    if not labeled:
        return Frame.from_atoms(atoms)
    stress = rng.normal(size=(3, 3)) if all(atoms.pbc) else None
    symmetric = None if stress is None else 0.5 * (stress + stress.T)
    return Frame.from_atoms(atoms, float(rng.normal()), rng.normal(size=atoms.positions.shape), symmetric)


class PairPotential:
    """Smooth pair energies sum f(r) over the edges of a batch; conservative, with exact forces by autograd."""

    def __init__(self, pair_energy):
        self.pair_energy = pair_energy

    def energies(self, batch, positions):
        vectors = positions[batch.edges[1]] - positions[batch.edges[0]] + batch.edge_shifts
        pairs = 0.5 * self.pair_energy(torch.linalg.vector_norm(vectors, dim=-1))
        index = batch.structure_index[batch.edges[0]]
        return pairs.new_zeros(batch.n_structures).index_add(0, index, pairs)

    def __call__(self, batch):
        positions = batch.positions.detach().requires_grad_(True)
        energies = self.energies(batch, positions)
        (gradient,) = torch.autograd.grad(energies.sum(), positions)
        return Prediction(energies.detach(), -gradient)
