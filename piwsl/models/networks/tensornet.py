"""TensorNet: equivariant message passing with Cartesian tensors (Simeon, De Fabritiis, NeurIPS 2023).

Each channel of an atom is a 3 x 3 matrix X = I + A + S, the sum of a multiple of the identity, an antisymmetric part,
and a symmetric traceless part. It is stored as 1 + 3 + 5 components (see `cartesian.py`). Mixing of channels and sums
over neighbors act on components. Products act on full matrices.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.cartesian import PartwiseLinear, TracelessSquares, matrix_basis, product_of_matrices
from piwsl.models.networks.options import Channels, Layers, RadialBasis, RadialSize
from piwsl.models.networks.radial import RadialFeatures, edge_lengths
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex


def squared_norms(tensors: Tensor) -> Tensor:
    """Return the squared Frobenius norms of I, A and S, (N, 9, F) -> (N, 3F)."""
    identity, antisymmetric, symmetric = (tensors * tensors).split_with_sizes([1, 3, 5], dim=1)
    return torch.cat((identity.sum(1), antisymmetric.sum(1), symmetric.sum(1)), dim=-1)


def normalized(tensors: Tensor) -> Tensor:
    """Return X / (|X|^2 + 1), (N, 9, F) -> (N, 9, F)."""
    return tensors / ((tensors * tensors).sum(1, keepdim=True) + 1.0)


class MatrixProducts(nn.Module):
    """Matrix products of tensors in components, for each atom and channel."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", matrix_basis().view(9, 9), persistent=False)

    def _matrices(self, tensors: Tensor) -> Tensor:
        return self.basis.to(tensors.dtype).t().matmul(tensors).view(tensors.shape[0], 3, 3, -1)

    def _components(self, matrices: Tensor) -> Tensor:
        return self.basis.to(matrices.dtype).matmul(matrices.view(matrices.shape[0], 9, -1))

    def anticommutator(self, left: Tensor, right: Tensor) -> Tensor:
        """Return XY + YX in components (N, 9, F), which conserves parity: vectors and pseudovectors do not mix."""
        x, y = self._matrices(left), self._matrices(right)
        return self._components(product_of_matrices(x, y) + product_of_matrices(y, x))

    def square(self, tensors: Tensor) -> Tensor:
        """Return X X in components (N, 9, F)."""
        matrices = self._matrices(tensors)
        return self._components(product_of_matrices(matrices, matrices))


class Embedding(nn.Module):
    """Initial tensors of an atom, from the elements and directions of its neighbors (section 3.1 of the paper)."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        # A linear layer of both elements of a pair equals the sum of two linear layers, one per element.
        self.center = nn.Linear(channels, channels)
        self.neighbor = nn.Linear(channels, channels, bias=False)
        self.filters = nn.Linear(radial_size + 1, 3 * channels, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.gate = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, 3 * channels), nn.SiLU()
        )
        self.mix = PartwiseLinear(channels, channels)

    def _sums(self, values: Tensor, filters: list[Tensor], directions: list[Tensor], edges: Edges) -> Tensor:
        identity = math.sqrt(3.0) * self.neighbor_sums.scalars(filters[0], values, edges).unsqueeze(1)
        antisymmetric = self.neighbor_sums.outer(filters[1], values, directions[0], -1.0, edges)
        symmetric = self.neighbor_sums.outer(filters[2], values, directions[1], 1.0, edges)
        return torch.cat((identity, antisymmetric, symmetric), dim=1)

    def forward(self, species: Species, radial: Tensor, directions: list[Tensor], edges: Edges) -> Tensor:
        """Map species (N,), radial features (E, R + 1) and directions A (E, 3) and S (E, 5) to tensors (N, 9, F)."""
        elements = self.elements(species)
        filters = self.neighbor_sums.filters(radial, self.filters.weight, self.channels)
        center, neighbor = self.center(elements), self.neighbor(elements)
        tensors = self._sums(neighbor, filters, directions, edges)
        tensors = tensors + center.unsqueeze(1) * self._sums(torch.ones_like(center), filters, directions, edges)
        gates = self.gate(self.norm((tensors * tensors).sum(1))).view(-1, 3, self.channels)
        identity, antisymmetric, symmetric = self.mix(tensors).split_with_sizes([1, 3, 5], dim=1)
        return torch.cat((gates[:, 0:1] * identity, gates[:, 1:2] * antisymmetric, gates[:, 2:3] * symmetric), dim=1)


class Interaction(nn.Module):
    """Interaction block with messages from the neighbors and matrix products (section 3.2 of the paper, O(3) form)."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.filters = nn.Linear(radial_size + 1, 3 * channels, bias=False)
        self.before = PartwiseLinear(channels, channels)
        self.after = PartwiseLinear(channels, channels)
        self.products = MatrixProducts()

    def forward(self, tensors: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        """Return tensors (N, 9, F) updated with messages from the neighbors."""
        tensors = normalized(tensors)
        own = self.before(tensors)
        for_identity, for_antisymmetric, for_symmetric = self.neighbor_sums.filters(
            radial, self.filters.weight, self.channels
        )
        identity, antisymmetric, symmetric = own.split_with_sizes([1, 3, 5], dim=1)
        messages = torch.cat(
            (
                self.neighbor_sums.vectors(for_identity, identity, edges),
                self.neighbor_sums.vectors(for_antisymmetric, antisymmetric, edges),
                self.neighbor_sums.vectors(for_symmetric, symmetric, edges),
            ),
            dim=1,
        )
        change = self.after(normalized(self.products.anticommutator(own, messages)))
        updated: Tensor = tensors + change + self.products.square(change)
        return updated


class TensorNet(nn.Module):
    """TensorNet energy network. The arguments are the same as for `piwsl.models.networks.painn.PaiNN`.

    Filters are linear in the radial functions, whereas the paper uses a small network.
    """

    head_weights: ClassVar[tuple[str, ...]] = ("readout",)

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: Channels = 64,
        layers: Layers = 3,
        radial_size: RadialSize = 20,
        radial: RadialBasis = "bessel",
        neighbor_sums: NeighborSums | None = None,
    ) -> None:
        super().__init__()
        neighbor_sums = EdgeList() if neighbor_sums is None else neighbor_sums
        self.cutoff = cutoff
        self.neighbor_sums = neighbor_sums
        self.radial = RadialFeatures(cutoff, radial_size, radial)
        self.squares = TracelessSquares()
        self.embedding = Embedding(channels, radial_size, neighbor_sums)
        self.interactions = nn.ModuleList(Interaction(channels, radial_size, neighbor_sums) for _ in range(layers))
        self.norm = nn.LayerNorm(3 * channels)
        self.readout = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.SiLU(),
            nn.Linear(channels, channels // 2),
            nn.SiLU(),
            nn.Linear(channels // 2, 1),
        )

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        edges, edge_vectors = self.neighbor_sums.unique_pairs(edges, edge_vectors)
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        units = edge_vectors / distances.unsqueeze(-1)
        tensors = self.embedding(species, radial, [math.sqrt(2.0) * units, self.squares(units)], edges)
        for interaction in self.interactions:
            tensors = interaction(tensors, radial, edges)
        # Without this conversion, the derivatives of the layer norm would have mixed types.
        norms = squared_norms(tensors).to(self.norm.weight.dtype)
        energies: Tensor = self.readout(self.norm(norms)).squeeze(-1)
        return energies
