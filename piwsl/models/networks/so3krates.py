"""So3krates: a Euclidean transformer (Frank, Unke, Müller, Chmiela, Nature Communications 15, 6539, 2024).

Each atom has invariant features (N, F) and Euclidean variables (N, D). The variables have one component for each order
of each degree from 1 to L. They interact only through the norms of their differences, one norm for each degree, so no
products of spherical harmonics are needed.
"""

import math

import torch
from torch import Tensor, nn

from piwsl.models.networks.electronic import ElectronicEmbedding
from piwsl.models.networks.spherical import degree_index
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, Species, StructureIndex

NORM_EPSILON = 1e-6


class BernsteinBasis(nn.Module):
    """Bernstein polynomials of exp(-gamma r) with the decay gamma (Unke et al. 2021, SpookyNet, eq. 13).

    Args:
        size: Number of polynomials.
        decay: Decay gamma, 1/angstrom.
    """

    decay: Tensor
    coefficients: Tensor
    powers: Tensor

    def __init__(self, size: int, decay: float) -> None:
        super().__init__()
        binomials = [math.comb(size - 1, k) for k in range(size)]
        self.register_buffer("decay", torch.tensor(decay))
        self.register_buffer("coefficients", torch.tensor(binomials, dtype=torch.float64).log())
        self.register_buffer("powers", torch.arange(size, dtype=torch.float64), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to features (E, size)."""
        # The exponents are sums of large numbers that almost cancel. In float32, they would dominate the rounding error
        # of energies.
        exponent = -self.decay.to(torch.float64) * distances.to(torch.float64).unsqueeze(1)
        powers = self.powers.to(torch.float64)
        # This form of log(1 - exp(x)) is accurate for small distances.
        rest = torch.log(-torch.expm1(exponent))
        basis = torch.exp(self.coefficients.to(torch.float64) + powers * exponent + powers.flip(0) * rest)
        return basis.to(distances.dtype)


class QuinticCutoff(nn.Module):
    """Switch ``1 - 6 x^5 + 15 x^4 - 10 x^3`` with x = r / cutoff (Unke, Meuwly 2019, PhysNet, eq. 8)."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """Map distances (E,) in angstrom to weights (E,)."""
        x = torch.clamp(distances / self.cutoff, max=1.0)
        return 1.0 + x * x * x * (-10.0 + x * (15.0 - 6.0 * x))


class Filter(nn.Module):
    """Filter of a pair, from its length and the invariants of the difference between its Euclidean variables (eq. 9).

    Both directions of the pair have the same filter.
    """

    def __init__(self, radial_size: int, degrees: int, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 4)
        self.radial = nn.Sequential(nn.Linear(radial_size, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.invariants = nn.Sequential(nn.Linear(degrees, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, radial: Tensor, invariants: Tensor) -> Tensor:
        """Map radial features (P, R) and invariants (P, L) or (1, L) to filters (P, F)."""
        filters: Tensor = self.radial(radial) + self.invariants(invariants)
        return filters


class Invariants(nn.Module):
    """Invariants of Euclidean variables: the sum of the squares of each degree l, divided by sqrt(2 l + 1)."""

    matrix: Tensor

    def __init__(self, largest: int) -> None:
        super().__init__()
        degrees = torch.arange(1, largest + 1)
        index = degree_index(degrees.tolist())
        matrix = torch.zeros(len(index), largest, dtype=torch.float64)
        matrix[torch.arange(len(index)), index] = (2.0 * degrees.to(torch.float64) + 1.0).rsqrt()[index]
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, variables: Tensor) -> Tensor:
        """Map variables (N, D) to invariants (N, L)."""
        return (variables * variables).matmul(self.matrix.to(variables.dtype))


class Attention(nn.Module):
    """Attention to the neighbors, which updates features and Euclidean variables (eqs. 10 to 12).

    The weights are divided by the mean number of neighbors.

    Args:
        channels: Number of invariant features F.
        heads: Number of heads in the attention for features.
        degrees: Largest degree L, and the number of heads in the attention for directions.
        radial_size: Number of radial functions.
        neighbors: Mean number of neighbors.
    """

    component: Tensor

    def __init__(self, channels: int, heads: int, degrees: int, radial_size: int, neighbors: float) -> None:
        super().__init__()
        self.heads = heads
        self.degrees = degrees
        self.neighbors = neighbors
        self.feature_filter = Filter(radial_size, degrees, channels)
        self.direction_filter = Filter(radial_size, degrees, channels)
        # Query, key and value of the features, for each head.
        self.feature_maps = nn.Parameter(_head_weights(heads, channels // heads, 3))
        # Query and key of the directions, for each degree.
        self.direction_maps = nn.Parameter(_head_weights(degrees, channels // degrees, 2))
        self.register_buffer("component", degree_index(list(range(1, degrees + 1))), persistent=False)

    def forward(
        self, features: Tensor, radial: Tensor, invariants: Tensor, harmonics: Tensor, switch: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """Return the updates of features (N, F) and Euclidean variables (N, D).

        Args:
            features: Invariant features (N, F).
            radial: Radial functions (P, R) of each pair.
            invariants: Invariants (P, L) of each pair, or (1, L) if all pairs have the same.
            harmonics: Spherical harmonics (E, D) of the direction of each edge.
            switch: Cutoff switch (P, 1) of each pair.
            edges: Edges (2, E), E = 2 P; the second half repeats the first in the other direction.
        """
        center, neighbor = edges[0], edges[1]
        switch = switch / self.neighbors
        query, key, value = _heads(features, self.feature_maps).chunk(3, dim=2)
        filters = self.feature_filter(radial, invariants)
        weights = self._weights(filters, query.index_select(0, center), key.index_select(0, neighbor), switch)
        messages = (weights.unsqueeze(2) * value.index_select(0, neighbor)).flatten(1)
        new_features = torch.zeros_like(features).index_add(0, center, messages)

        query, key = _heads(features, self.direction_maps).chunk(2, dim=2)
        filters = self.direction_filter(radial, invariants)
        weights = self._weights(filters, query.index_select(0, center), key.index_select(0, neighbor), switch)
        along = weights.index_select(1, self.component) * harmonics
        variables = along.new_zeros((features.shape[0], along.shape[1]))
        return new_features, variables.index_add(0, center, along)

    def _weights(self, filters: Tensor, query: Tensor, key: Tensor, switch: Tensor) -> Tensor:
        """Return the weights (E, H) of edges from the filters (P, F) of pairs, and queries and keys (E, H, F / H)."""
        products = (query * key).view(2, -1, query.shape[1], query.shape[2])
        filters = filters.view(-1, query.shape[1], query.shape[2])
        return ((filters * products).sum(3) * switch).view(-1, query.shape[1])


class Interaction(nn.Module):
    """Exchange between the features and the Euclidean variables of an atom (eqs. 13 and 14)."""

    component: Tensor

    def __init__(self, channels: int, degrees: int) -> None:
        super().__init__()
        self.channels = channels
        self.degrees = degrees
        self.linear = nn.Linear(channels + degrees, channels + degrees)
        self.invariants = Invariants(degrees)
        self.register_buffer("component", degree_index(list(range(1, degrees + 1))), persistent=False)

    def forward(self, features: Tensor, variables: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated features (N, F) and variables (N, D)."""
        mixed = self.linear(torch.cat((features, self.invariants(variables)), dim=1))
        change, factors = mixed.split([self.channels, self.degrees], dim=1)
        return features + change, variables + factors.index_select(1, self.component) * variables


class Layer(nn.Module):
    """Layer of the transformer: attention, normalization, residual network, interaction and normalization."""

    def __init__(self, channels: int, heads: int, degrees: int, radial_size: int, neighbors: float) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, degrees, radial_size, neighbors)
        self.first_norm = nn.LayerNorm(channels, eps=NORM_EPSILON)
        self.residual = nn.Sequential(
            nn.SiLU(), nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels)
        )
        self.interaction = Interaction(channels, degrees)
        self.last_norm = nn.LayerNorm(channels, eps=NORM_EPSILON)

    def forward(
        self,
        features: Tensor,
        variables: Tensor,
        radial: Tensor,
        invariants: Tensor,
        harmonics: Tensor,
        switch: Tensor,
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:
        """Return updated features (N, F) and variables (N, D). The other arguments are the same as for `Attention`."""
        new_features, new_variables = self.attention(features, radial, invariants, harmonics, switch, edges)
        # Without this conversion, the derivatives of the layer norm would have mixed types.
        features = self.first_norm((features + new_features).to(self.first_norm.weight.dtype))
        features, variables = self.interaction(features + self.residual(features), variables + new_variables)
        return self.last_norm(features), variables


class So3krates(nn.Module):
    """Layers of So3krates that compute the invariant features of each atom.

    Args:
        cutoff: Range of the messages, angstrom.
        channels: Number of invariant features F, a multiple of ``heads`` and of ``degrees``.
        layers: Number of layers.
        heads: Number of heads in the attention for features.
        degrees: Largest degree of the Euclidean variables.
        radial_size: Number of radial functions.
        decay: Decay gamma of the radial functions, 1/angstrom.
        neighbors: Mean number of neighbors.
    """

    parity: Tensor

    def __init__(
        self,
        cutoff: float,
        channels: int,
        layers: int,
        heads: int,
        degrees: int,
        radial_size: int,
        decay: float,
        neighbors: float,
    ) -> None:
        super().__init__()
        self.radial = BernsteinBasis(radial_size, decay)
        self.switch = QuinticCutoff(cutoff)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.charge = ElectronicEmbedding(channels, 1e-6)
        self.spin = ElectronicEmbedding(channels, 1e-6)
        self.invariants = Invariants(degrees)
        parity = torch.tensor([(-1.0) ** (degree + 1) for degree in range(degrees)], dtype=torch.float64)
        self.register_buffer("parity", parity[degree_index(list(range(1, degrees + 1)))], persistent=False)
        self.layers = nn.ModuleList(Layer(channels, heads, degrees, radial_size, neighbors) for _ in range(layers))

    def forward(
        self,
        species: Species,
        edges: Edges,
        distances: Tensor,
        harmonics: Tensor,
        structure_index: StructureIndex,
        charges: Tensor,
        unpaired: Tensor,
    ) -> Tensor:
        """Return the features (N, F) of each atom.

        Args:
            species: Atomic numbers (N,).
            edges: Edges within the cutoff (2, E), E = 2 P; the second half repeats the first in the other direction.
            distances: Lengths (P,) of the first half, angstrom.
            harmonics: Spherical harmonics (P, D) of the directions of the first half, from degree 1.
            structure_index: Structure of each atom (N,).
            charges: Charge of the structure (N,), repeated for each atom, e.
            unpaired: Number of unpaired electrons of the structure (N,), repeated for each atom.
        """
        features = self.embedding(species)
        features = features + self.charge(species, charges, structure_index)
        features = (features + self.spin(species, unpaired, structure_index)) / math.sqrt(3.0)
        radial, switch = self.radial(distances), self.switch(distances).unsqueeze(1)
        harmonics = torch.cat((harmonics, harmonics * self.parity.to(harmonics.dtype)))
        first, second = edges[:, : distances.shape[0]].unbind(0)
        variables = harmonics.new_zeros((species.shape[0], harmonics.shape[1]))
        # All variables are zero initially, so the invariants of all edges are equal.
        invariants = self.invariants(variables.new_zeros((1, harmonics.shape[1])))
        for layer in self.layers:
            features, variables = layer(features, variables, radial, invariants, harmonics, switch, edges)
            differences = variables.index_select(0, second) - variables.index_select(0, first)
            invariants = self.invariants(differences)
        result: Tensor = features
        return result


def _head_weights(heads: int, width: int, count: int) -> Tensor:
    return torch.randn(heads, width, count * width) / math.sqrt(width)


def _heads(features: Tensor, maps: Tensor) -> Tensor:
    """Map features (N, F) with the matrices (H, F / H, G) of the heads to (N, H, G)."""
    split = features.view(features.shape[0], maps.shape[0], maps.shape[1])
    return torch.bmm(split.transpose(0, 1), maps).transpose(0, 1)
