"""Small real molecules and analytic potentials that tests share."""

import numpy as np
import torch
from ase.build import molecule

from piwsl.data.frames import Frame
from piwsl.losses.prediction import Prediction


def frame(name: str, rattle: float = 0.05, seed: int = 0, labelled: bool = False) -> Frame:
    """A molecule of ASE's G2 set, a little displaced from its minimum."""
    atoms = molecule(name)
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0.0, rattle, atoms.positions.shape)
    if labelled:
        return Frame.from_atoms(atoms, float(rng.normal()), rng.normal(size=atoms.positions.shape))
    return Frame.from_atoms(atoms)


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


class HarmonicField:
    """E = 1/2 x.K.x for each atom about the origin: Taylor expansions of second order are exact."""

    stiffness = torch.tensor([[3.0, 0.4, 0.1], [0.4, 2.0, -0.3], [0.1, -0.3, 1.0]], dtype=torch.float64)

    def __call__(self, batch):
        forces = -batch.positions.double() @ self.stiffness
        energies = -0.5 * (batch.positions.double() * forces).sum(-1)
        summed = energies.new_zeros(batch.n_structures).index_add(0, batch.structure_index, energies)
        return Prediction(summed, forces)


class CurlingField(HarmonicField):
    """The harmonic energy with forces that have a curl: no energy belongs to them."""

    def __call__(self, batch):
        prediction = super().__call__(batch)
        x, y, _ = batch.positions.double().unbind(-1)
        return Prediction(prediction.energies, prediction.forces + torch.stack([-y, x, torch.zeros_like(x)], dim=-1))
