"""Sum of the pair energies that a potential adds to its network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.priors.walls import Walls
from piwsl.models.priors.zbl import ZBL
from piwsl.typing import Edges, EdgeVectors, Species


class Prior(nn.Module):
    """Sum of pair energies, in eV and angstrom, that is not trained.

    The energy of a structure is the sum over its edges plus ``offset`` (eV) for each atom. A term maps (species, edges,
    distances) to the energy of each pair. Its method ``slopes`` returns the derivatives with respect to the distances.

    Args:
        terms: Terms of the sum.
        pairs: Pairs of a molecule, if the edges have their order. With None, each pair has an edge in both directions.
    """

    share: Tensor

    def __init__(self, terms: Sequence[ZBL | Walls], pairs: MoleculePairs | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.reach = max(term.reach for term in terms)
        self.offset = sum(term.offset for term in terms)
        share = torch.tensor(0.5)
        if pairs is not None:
            share = pairs.halves.expand(pairs.reach, pairs.rows, 1).reshape(-1).clone()
        self.register_buffer("share", share, persistent=False)

    def forward(self, species: Species, edges: Edges, edge_vectors: EdgeVectors) -> Tensor:
        """Return the energy (E,) of each edge, its part of the energy of its pair."""
        distances = _lengths(edge_vectors)
        energies = torch.zeros_like(distances)
        for term in self.terms:
            energies = energies + term(species, edges, distances)
        return energies * self.share.to(energies.dtype)

    @torch.jit.export
    def energies_and_forces(self, species: Species, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Tensor, Tensor]:
        """Return the energy (E,) of each edge, and the force (N, 3) on each atom."""
        distances = _lengths(edge_vectors)
        energies, slopes = torch.zeros_like(distances), torch.zeros_like(distances)
        for term in self.terms:
            energies = energies + term(species, edges, distances)
            slopes = slopes + term.slopes(species, edges, distances)  # type: ignore[operator]
        share = self.share.to(energies.dtype)
        along = (slopes * share / distances).unsqueeze(1) * edge_vectors
        atoms = along.new_zeros((species.shape[0], 3))
        return energies * share, atoms.index_add(0, edges[0], along).index_add(0, edges[1], -along)


def _lengths(edge_vectors: EdgeVectors) -> Tensor:
    return (edge_vectors * edge_vectors).sum(-1).sqrt()
