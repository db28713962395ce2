"""PaiNN: equivariant message passing with scalars and vectors (Schütt, Unke, Gastegger 2021)."""

import torch
from torch import Tensor, nn

from piwsl.models.pairs import AllPairs, EdgeList
from piwsl.models.radial import RADIAL_BASES, PolynomialCutoff
from piwsl.typing import Edges, EdgeVectors, Species, StructureIndex

MAX_ATOMIC_NUMBER = 118


class FirstMessage(nn.Module):
    """Message block of the first layer, where all vectors are still zero (eqs. 7 and 8 without their v term)."""

    def __init__(self, channels: int, radial_size: int, pairs: EdgeList | AllPairs) -> None:
        super().__init__()
        self.channels = channels
        self.pairs = pairs
        self.context = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 2 * channels))
        self.filters = nn.Linear(radial_size, 2 * channels)

    def forward(
        self, scalars: Tensor, radial: Tensor, envelope: Tensor, directions: EdgeVectors, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, F) to updated scalars (N, F) and the first vectors (N, 3, F)."""
        width = self.channels
        context = self.context(scalars)
        filters = self.filters(radial) * envelope
        new_scalars = self.pairs.scalars(filters[:, :width], context[:, :width], edges)
        vectors = self.pairs.outer(filters[:, width:], context[:, width:], directions, edges)
        return scalars + new_scalars, vectors


class Message(nn.Module):
    """Message block (eqs. 7 and 8)."""

    def __init__(self, channels: int, radial_size: int, pairs: EdgeList | AllPairs) -> None:
        super().__init__()
        self.channels = channels
        self.pairs = pairs
        self.context = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))
        self.filters = nn.Linear(radial_size, 3 * channels)

    def forward(
        self,
        scalars: Tensor,
        vectors: Tensor,
        radial: Tensor,
        envelope: Tensor,
        directions: EdgeVectors,
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, F) and vectors (N, 3, F) to the same, updated from the neighbours."""
        width = self.channels
        context = self.context(scalars)
        filters = self.filters(radial) * envelope
        new_scalars = self.pairs.scalars(filters[:, :width], context[:, :width], edges)
        new_vectors = self.pairs.outer(filters[:, width : 2 * width], context[:, width : 2 * width], directions, edges)
        carried = context[:, 2 * width :].unsqueeze(1) * vectors
        new_vectors = new_vectors + self.pairs.vectors(filters[:, 2 * width :], carried, edges)
        return scalars + new_scalars, vectors + new_vectors


class Update(nn.Module):
    """Update block within an atom (eqs. 9 and 10)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.context = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars (N, F) and vectors (N, 3, F) to the same, mixed within each atom."""
        width = self.channels
        mixed = self.mix(vectors)
        left, right = mixed[..., :width], mixed[..., width:]
        # The small constant keeps the gradient of the norm finite where vectors vanish by symmetry.
        norm = torch.sqrt((right * right).sum(1) + 1e-8)
        context = self.context(torch.cat((scalars, norm), dim=-1))
        inner = (left * right).sum(1)
        new_scalars = context[:, :width] + context[:, width : 2 * width] * inner
        new_vectors = context[:, 2 * width :].unsqueeze(1) * left
        return scalars + new_scalars, vectors + new_vectors


class PaiNN(nn.Module):
    """PaiNN energy network.

    Args:
        cutoff: interaction range, angstrom.
        channels: features F of an atom.
        layers: pairs of message and update blocks.
        radial_size: number of radial functions.
        radial: name of the radial basis (``bessel`` or ``gaussian``).
        pairs: how sums over neighbours are taken.
    """

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: int = 64,
        layers: int = 3,
        radial_size: int = 20,
        radial: str = "bessel",
        pairs: EdgeList | AllPairs | None = None,
    ) -> None:
        super().__init__()
        pairs = EdgeList() if pairs is None else pairs
        self.cutoff = cutoff
        self.radial = RADIAL_BASES[radial](cutoff, radial_size)
        self.envelope = PolynomialCutoff(cutoff)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.first_message = FirstMessage(channels, radial_size, pairs)
        self.first_update = Update(channels)
        self.messages = nn.ModuleList(Message(channels, radial_size, pairs) for _ in range(layers - 1))
        self.updates = nn.ModuleList(Update(channels) for _ in range(layers - 1))
        self.readout = nn.Sequential(nn.Linear(channels, channels // 2), nn.SiLU(), nn.Linear(channels // 2, 1))

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Energy of each atom (N,), in units of the potential's scale."""
        distances = torch.linalg.vector_norm(edge_vectors, dim=-1)
        radial = self.radial(distances)
        envelope = self.envelope(distances).unsqueeze(-1)
        directions = edge_vectors / distances.unsqueeze(-1)
        scalars, vectors = self.first_message(self.embedding(species), radial, envelope, directions, edges)
        scalars, vectors = self.first_update(scalars, vectors)
        for message, update in zip(self.messages, self.updates):  # noqa: B905 (TorchScript has no strict)
            scalars, vectors = message(scalars, vectors, radial, envelope, directions, edges)
            scalars, vectors = update(scalars, vectors)
        energies: Tensor = self.readout(scalars).squeeze(-1)
        return energies
