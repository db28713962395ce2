"""Message-passing atomic cluster expansion with Cartesian tensors up to rank 2 and products of three tensors.

The construction is that of MACE (Batatia et al., NeurIPS 2022, section 4) for hidden features and directions of rank 0
to 2. Products are restricted to rank 2 and conserve parity. Messages combine the scalars of the neighbors with the
directions to the neighbors. From the second layer on, they also contain the tensors of the neighbors. The polynomials
of smooth radial functions make the network data-efficient.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.cartesian import PartwiseLinear, TracelessSquares, limited, matrix_basis, product_of_matrices
from piwsl.models.networks.options import Channels, Layers, RadialBasis, RadialSize
from piwsl.models.networks.radial import RadialFeatures, edge_lengths
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex

FILTER_WIDTH = 64
# Typical number of neighbors with large weights. It scales initial sums over neighbors and their products to order one.
TYPICAL_NEIGHBORS = 8.0
# Largest norm of the tensor of a channel before multiplication. Typical norms are 1 to 2. Without this limit, products
# of several layers would overflow for dense crystals and short distances.
LARGEST_NORM = 5.0


class TensorProduct(nn.Module):
    """Parity-conserving products of two tensors up to rank 2, for each atom and channel.

    Let s, v and T denote the scalar, vector and matrix of the left tensor, and a, b and C the corresponding parts of
    the right tensor. The eleven weighted paths are s a, v.b and T:C to scalars; s b, a v, T b and C v to vectors; and s
    C, a T and the traceless parts of v b and T C to matrices.
    """

    PATHS = 11

    basis: Tensor
    path: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", matrix_basis()[4:].reshape(5, 9), persistent=False)
        # Path of each component of the products x y (9), s (b, C) (8) and a (v, T) (8).
        path = [0, *[1] * 3, *[2] * 5, *[3] * 3, *[4] * 5, *[5] * 3, *[6] * 5]
        self.register_buffer("path", torch.tensor(path), persistent=False)

    def forward(self, left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        """Map tensors (N, 9, F) and weights (N, 11, F) to the weighted sum of all paths (N, 9, F)."""
        n_atoms, width = left.shape[0], left.shape[2]
        basis = self.basis.to(left.dtype)
        alike, of_right, of_left = weights.index_select(1, self.path).split_with_sizes([9, 8, 8], dim=1)
        matrix_vector, vector_matrix, vectors, matrices = weights[:, 7:].unsqueeze(2).unbind(1)
        left_scalar, left_rest = left.split_with_sizes([1, 8], dim=1)
        right_scalar, right_rest = right.split_with_sizes([1, 8], dim=1)
        v, t = left_rest.split_with_sizes([3, 5], dim=1)
        b, c = right_rest.split_with_sizes([3, 5], dim=1)
        left_matrix = basis.t().matmul(t).view(n_atoms, 3, 3, width)
        right_matrix = basis.t().matmul(c).view(n_atoms, 3, 3, width)

        to_scalars = (alike * (left * right)).sum(1, keepdim=True)
        to_rest = left_scalar * (of_right * right_rest) + right_scalar * (of_left * left_rest)
        turned = matrix_vector * (left_matrix * b.unsqueeze(1)).sum(2)
        turned = turned + vector_matrix * (right_matrix * v.unsqueeze(1)).sum(2)
        squares = vectors.unsqueeze(1) * (v.unsqueeze(2) * b.unsqueeze(1))
        squares = squares + matrices.unsqueeze(1) * product_of_matrices(left_matrix, right_matrix)
        # The basis projects onto the symmetric traceless part. The factor equalizes the magnitudes of the paths.
        traceless = math.sqrt(1.5) * basis.matmul(squares.view(n_atoms, 9, width))
        return torch.cat((to_scalars, to_rest + torch.cat((turned, traceless), dim=1)), dim=1)


class ClusterExpansion(nn.Module):
    """Weighted products of one, two and three tensors of an atom (eqs. 10 and 11), with weights for each element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.largest = LARGEST_NORM
        self.product = TensorProduct()
        self.count = 3 + 2 * TensorProduct.PATHS
        self.weights = nn.Embedding(MAX_ATOMIC_NUMBER + 1, self.count * channels)
        nn.init.normal_(self.weights.weight, std=0.4)
        self.mix = PartwiseLinear(channels, channels)

    def forward(self, species: Species, tensors: Tensor) -> Tensor:
        """Map species (N,) and sums over neighbors (N, 9, F) to messages (N, 9, F)."""
        tensors = limited(tensors, self.largest)
        weights = self.weights(species).view(-1, self.count, self.channels)
        single, double, triple = weights.split_with_sizes([3, 11, 11], dim=1)
        pairs = self.product(tensors, tensors, double)
        scalars, vectors, matrices = tensors.split_with_sizes([1, 3, 5], dim=1)
        once = torch.cat((single[:, 0:1] * scalars, single[:, 1:2] * vectors, single[:, 2:3] * matrices), dim=1)
        messages: Tensor = self.mix(once + pairs + self.product(pairs, tensors, triple))
        return messages


class Filters(nn.Module):
    """Small network that maps radial features to filters.

    The cutoff switch multiplies the input of the last layer, which is linear.
    """

    def __init__(self, radial_size: int, channels: int, count: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.first = nn.Linear(radial_size + 1, FILTER_WIDTH)
        self.activation = nn.SiLU()
        self.last = nn.Linear(FILTER_WIDTH, count * channels, bias=False)

    def forward(self, radial: Tensor) -> list[Tensor]:
        """Map radial features (E, R + 1), with the switch in the last column, to ``count`` filters (E, F)."""
        hidden = self.activation(self.first(radial)) * radial[:, -1:]
        return self.neighbor_sums.filters(hidden, self.last.weight, self.channels)


class FirstInteraction(nn.Module):
    """Interaction of the first layer, in which atoms have only scalars."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.neighbor_sums = neighbor_sums
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.filters = Filters(radial_size, channels, 3, neighbor_sums)
        self.sender = nn.Linear(channels, channels, bias=False)
        self.receiver = PartwiseLinear(channels, channels)
        self.expansion = ClusterExpansion(channels)

    def forward(
        self, species: Species, scalars: Tensor, radial: Tensor, vectors: Tensor, matrices: Tensor, edges: Edges
    ) -> Tensor:
        """Map scalars (N, F) and directions, as vectors (E, 3) and matrices (E, 5), to tensors (N, 9, F)."""
        filters = self.filters(radial)
        sent = self.sender(scalars)
        sums = torch.cat(
            (
                self.neighbor_sums.scalars(filters[0], sent, edges).unsqueeze(1),
                self.neighbor_sums.outer(filters[1], sent, vectors, -1.0, edges),
                self.neighbor_sums.outer(filters[2], sent, matrices, 1.0, edges),
            ),
            dim=1,
        )
        tensors: Tensor = self.expansion(species, self.receiver(self.scale * sums))
        return tensors


class Interaction(nn.Module):
    """Interaction of later layers, which sums scalars times directions, vectors, and matrices of the neighbors."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.neighbor_sums = neighbor_sums
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.filters = Filters(radial_size, channels, 6, neighbor_sums)
        self.sender = PartwiseLinear(channels, channels)
        self.receiver = PartwiseLinear(2 * channels, channels)
        self.expansion = ClusterExpansion(channels)
        self.skip = PartwiseLinear(channels, channels)

    def forward(
        self, species: Species, tensors: Tensor, radial: Tensor, vectors: Tensor, matrices: Tensor, edges: Edges
    ) -> Tensor:
        """Map tensors (N, 9, F) and directions, as vectors (E, 3) and matrices (E, 5), to tensors (N, 9, F)."""
        filters = self.filters(radial)
        sent_scalars, sent_vectors, sent_matrices = self.sender(tensors).split_with_sizes([1, 3, 5], dim=1)
        scalars = sent_scalars.squeeze(1)
        along = torch.cat(
            (
                self.neighbor_sums.scalars(filters[0], scalars, edges).unsqueeze(1),
                self.neighbor_sums.outer(filters[1], scalars, vectors, -1.0, edges),
                self.neighbor_sums.outer(filters[2], scalars, matrices, 1.0, edges),
            ),
            dim=1,
        )
        carried = torch.cat(
            (
                self.neighbor_sums.scalars(filters[3], scalars, edges).unsqueeze(1),
                self.neighbor_sums.vectors(filters[4], sent_vectors, edges),
                self.neighbor_sums.vectors(filters[5], sent_matrices, edges),
            ),
            dim=1,
        )
        sums = self.receiver(self.scale * torch.cat((along, carried), dim=-1))
        updated: Tensor = self.expansion(species, sums) + self.skip(tensors)
        return updated


class ACE(nn.Module):
    """Cartesian ACE energy network. The arguments are the same as for `piwsl.models.networks.painn.PaiNN`.

    The energy of an atom is a sum over the layers (eqs. 12 and 13). Each layer except the last contributes a linear
    function of its scalars, and the last layer contributes a small network of its scalars.
    """

    head_weights: ClassVar[tuple[str, ...]] = ("early_readouts", "readout")

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
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.first = FirstInteraction(channels, radial_size, neighbor_sums)
        self.interactions = nn.ModuleList(Interaction(channels, radial_size, neighbor_sums) for _ in range(layers - 1))
        _initialize([self.first, *self.interactions])
        self.early_readouts = nn.ModuleList(nn.Linear(channels, 1) for _ in range(layers - 1))
        self.readout = nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        edges, edge_vectors = self.neighbor_sums.unique_pairs(edges, edge_vectors)
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        units = edge_vectors / distances.unsqueeze(-1)
        # The factors normalize the mean square of each component over the sphere to 1.
        vectors, matrices = math.sqrt(3.0) * units, math.sqrt(7.5) * self.squares(units)
        tensors = self.first(species, self.embedding(species), radial, vectors, matrices, edges)
        energies = torch.zeros_like(tensors[:, 0, :1])
        for interaction, readout in zip(self.interactions, self.early_readouts):  # noqa: B905 (TorchScript)
            energies = energies + readout(tensors[:, 0])
            tensors = interaction(species, tensors, radial, vectors, matrices, edges)
        energies = energies + self.readout(tensors[:, 0])
        atomic: Tensor = energies.squeeze(-1)
        return atomic


def _initialize(interactions: list[nn.Module]) -> None:
    """Initialize the weights so that sums over neighbors, products and messages have order one."""
    modules = [module for interaction in interactions for module in interaction.modules()]
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
    with torch.no_grad():
        for module in modules:
            if isinstance(module, Filters):
                module.first.weight.mul_(4.0)  # radial features are of order 1/4
                nn.init.normal_(module.first.bias)
                module.last.weight.mul_(0.35)
            elif isinstance(module, Interaction):
                for parts in (module.expansion.mix, module.skip):
                    for part in (parts.scalars, parts.vectors, parts.matrices):
                        part.weight.mul_(math.sqrt(0.5))
