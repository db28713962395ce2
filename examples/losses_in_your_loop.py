"""PITC and PISC in a training loop of your own, with a model that is not from piwsl.

    python examples/losses_in_your_loop.py [STEPS]

The model has a force head and is trained on energies only, so that it learns forces from PITC and PISC alone. The terms
work with any model that returns energies (S,) in eV and forces (N, 3) in eV/angstrom. If the forces are derivatives of
the energy, compute them with create_graph=True.
"""

import sys

import torch
from torch import Tensor, nn

from piwsl.losses import PISC, PITC, PointPredictions, unit_vectors

ATOMS = 4


class TinyModel(nn.Module):
    """Clusters of four equal atoms: one function of the distance for pair energies, another one for pair forces."""

    def __init__(self) -> None:
        super().__init__()
        self.energy, self.force = (
            nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)) for _ in range(2)
        )

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Map positions (4 S, 3) to energies (S,) and forces (4 S, 3)."""
        distances, directions = pairs(positions)
        energies = self.energy(3.0 * (distances - 1.5)).sum((1, 2, 3)) / 2
        return energies, (self.force(3.0 * (distances - 1.5)) * directions).sum(2).reshape(-1, 3)


def pairs(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances (S, 4, 3, 1) and unit vectors (S, 4, 3, 3) from each atom to its three neighbors."""
    clusters = positions.view(-1, ATOMS, 3)
    others = torch.tensor([[j for j in range(ATOMS) if j != i] for i in range(ATOMS)])
    vectors = clusters[:, others] - clusters.unsqueeze(2)
    distances = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return distances, vectors / distances


def truth(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return energies and forces of Morse pairs with a well depth of 2 eV at 1.5 angstrom."""
    distances, directions = pairs(positions)
    rise = 1.0 - torch.exp(-1.2 * (distances - 1.5))
    slope = 2.0 * 2.0 * rise * 1.2 * (1.0 - rise)
    return (2.0 * rise.square()).sum((1, 2, 3)) / 2, (slope * directions).sum(2).reshape(-1, 3)


def clusters(count: int) -> Tensor:
    """Return positions (4 count, 3) of distorted tetrahedra, angstrom."""
    corners = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]) * 0.55
    return (corners + 0.12 * torch.randn(count, ATOMS, 3)).reshape(-1, 3)


def consistency(model: nn.Module, positions: Tensor, structure_index: Tensor) -> Tensor:
    """Return the PITC and PISC loss from predictions for the structures and two displaced copies."""
    d, e = (0.05 * unit_vectors(torch.randn_like(positions)) for _ in range(2))
    points = PointPredictions.of([model(x) for x in (positions, positions + d, positions + e)], [d, e], structure_index)
    pitc, _ = PITC(mixing=0.5)(points)
    pisc, _ = PISC(mixing=0.5)(points)
    return 10.0 * pitc.mean() + 0.1 * pisc.mean()


def force_error(model: nn.Module, positions: Tensor) -> float:
    """Return the RMS error of the forces relative to the RMS force."""
    forces = truth(positions)[1]
    return float((model(positions)[1].detach() - forces).norm() / forces.norm())


def main(steps: int) -> None:
    torch.manual_seed(0)
    positions, test = clusters(100), clusters(100)
    energies, _ = truth(positions)
    structure_index = torch.arange(100).repeat_interleave(ATOMS)
    model = TinyModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    print("step  energy MAE [eV]  relative force error of the test clusters")
    for step in range(steps + 1):
        error = (model(positions)[0] - energies).abs().mean()
        if step % (steps // 5) == 0:
            print(f"{step:4d} {error.item():16.4f} {force_error(model, test):10.3f}")
        optimizer.zero_grad()
        (error + consistency(model, positions, structure_index)).backward()
        optimizer.step()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
