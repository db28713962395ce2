"""SpinConv: messages between edges, computed on a sphere around each edge (Shuaibi et al. 2021, arXiv 2106.09575).

Each edge has features. Each layer projects the edges at the same center on a sphere whose pole is the edge
(section 3.2). They are distributed over rings of latitude, with linear interpolation between neighboring rings. A
filter is turned about the pole, and its responses are averaged over all angles (section 3.3). The result does not
depend on the origin of the angle.

A response is a sum of complex numbers, one for each order m, and turning the filter multiplies them by phases. The mean
response over all angles is the term of order 0. The mean of the squared response is the sum of the squared absolute
values. Both means are used here. Longitudes therefore need no grid, and energies are exactly equal in all orientations.

There are two more differences from the paper. A cutoff switch replaces the limited number of neighbors. Direct forces
are a sum along the edges instead of an estimate from random orientations.

The network is a baseline for comparisons: its forces jump if a neighbor crosses a ring of the sphere.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.options import Channels, HiddenChannels, Layers, Orders, RadialBasis, RadialSize, Rings
from piwsl.models.networks.radial import RadialFeatures, edge_lengths
from piwsl.models.networks.so2 import EdgeFeatures
from piwsl.models.networks.wigner import edge_frames
from piwsl.typing import Edges, EdgeVectors, Species, StructureIndex

# Typical number of neighbors with large contributions. It scales initial sums over neighbors to order one.
TYPICAL_NEIGHBORS = 8.0


def edge_pairs(edges: Edges, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Return all ordered pairs of edges (P,), (P,) with the same center, including each edge with itself."""
    centers = edges[0]
    order = torch.argsort(centers, stable=True)
    counts = torch.bincount(centers, minlength=n_atoms)
    starts = counts.cumsum(0) - counts
    of_edges = counts.index_select(0, centers)
    first = torch.repeat_interleave(of_edges)
    before = of_edges.cumsum(0) - of_edges
    rank = torch.arange(first.shape[0], device=first.device) - before.index_select(0, first)
    second = order.index_select(0, starts.index_select(0, centers.index_select(0, first)) + rank)
    return first, second


class SphereProjection(nn.Module):
    """Positions of the neighbors on the sphere around an edge, as rings of latitude and phases.

    Rings are equidistant in z = cos(theta). The phase of order m is (x + i y)^m, so nothing is singular at the poles.
    """

    def __init__(self, rings: int, orders: int) -> None:
        super().__init__()
        self.rings, self.orders = rings, orders

    def forward(self, directions: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Map directions (E, 3) and pairs (P,) to places (2P,) and weights (2P, 2 orders + 1).

        Each pair has two places, on the ring below and on the ring above the neighbor. A place is the index of the edge
        times the number of rings, plus the index of the ring. The weights of a place are the weight of the
        interpolation, and its products with the real and imaginary parts of the phase of each order above 0.
        """
        frames = edge_frames(directions).index_select(0, first)
        x, y, z = frames.matmul(directions.index_select(0, second).unsqueeze(2)).squeeze(2).unbind(1)
        height = 0.5 * (z + 1.0) * (self.rings - 1)
        # Even positions that are NaN need valid places. Their weights are NaN.
        below = torch.clamp(torch.nan_to_num(torch.floor(height.detach())), 0.0, self.rings - 2.0)
        share = height - below
        places = first * self.rings + below.to(first.dtype)
        real, imaginary = torch.ones_like(x), torch.zeros_like(x)
        phases = [real]
        for _ in range(self.orders):
            real, imaginary = real * x - imaginary * y, real * y + imaginary * x
            phases += [real, imaginary]
        stacked = torch.stack(phases, dim=1)
        shares = torch.cat((1.0 - share, share)).unsqueeze(1)
        return torch.cat((places, places + 1)), shares * torch.cat((stacked, stacked))


class SpinConvolution(nn.Module):
    """Update of each edge's features from the edges at the same center."""

    def __init__(self, channels: int, hidden: int, rings: int, orders: int) -> None:
        super().__init__()
        self.rings, self.phases, self.width = rings, 2 * orders + 1, rings * channels
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.norm = nn.LayerNorm(channels)
        self.sender = nn.Linear(channels, channels)
        self.uniform = nn.Linear(self.width, hidden)
        self.filters = nn.ModuleList(nn.Linear(self.width, hidden, bias=False) for _ in range(orders))
        self.own = nn.Linear(channels, hidden)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, features: Tensor, switch: Tensor, places: Tensor, weights: Tensor, second: Tensor) -> Tensor:
        """Update features (E, F)."""
        n_edges, channels = features.shape
        # Without this conversion, the derivatives of the layer norm would have mixed types.
        normalized = self.norm(features.to(self.norm.weight.dtype))
        sent = (self.sender(normalized) * (self.scale * switch)).index_select(0, second)
        projected = (weights.unsqueeze(2) * torch.cat((sent, sent)).unsqueeze(1)).flatten(1)
        sphere = projected.new_zeros((n_edges * self.rings, projected.shape[1])).index_add(0, places, projected)
        sphere = sphere.reshape(n_edges, self.rings, self.phases, channels).transpose(1, 2).flatten(2)
        hidden = self.uniform(sphere[:, 0]) + self.own(normalized)
        for number, filters in enumerate(self.filters):
            responses = filters(sphere[:, 2 * number + 1 : 2 * number + 3])
            squares = (responses * responses).sum(1)
            # This function grows like the absolute value of the response and is smooth at zero.
            hidden = hidden + squares * torch.rsqrt(1.0 + squares)
        updated: Tensor = features + self.mix(hidden)
        return updated


class SpinConvFeatures(nn.Module):
    """Layers of SpinConv up to the features of each edge.

    Args:
        cutoff: Interaction range, angstrom.
        channels: Number of features of an edge.
        layers: Number of spin convolutions.
        hidden: Number of filters.
        rings: Number of rings of latitude.
        orders: Largest order of the filters in longitude.
        radial_size: Number of radial functions.
        radial: Name of the radial basis (``bessel`` or ``gaussian``).
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "cutoff": 6.0,
            "channels": 32,
            "layers": 3,
            "hidden": 256,
            "rings": 16,
            "orders": 4,
            "radial_size": 512,
            "radial": "gaussian",
        },
    }
    limitation: ClassVar[str] = (
        "forces jump where a neighbor crosses a ring of the sphere grid: energies drift in dynamics"
    )
    # The edges at each atom are combined in pairs.
    largest_molecule: ClassVar[int] = 40
    has_force_head: ClassVar[bool] = False
    head_weights: ClassVar[tuple[str, ...]] = ("readout",)

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: Channels = 16,
        layers: Layers = 2,
        hidden: HiddenChannels = 64,
        rings: Rings = 9,
        orders: Orders = 2,
        radial_size: RadialSize = 20,
        radial: RadialBasis = "bessel",
        neighbor_sums: NeighborSums | None = None,
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.neighbor_sums = EdgeList() if neighbor_sums is None else neighbor_sums
        self.radial = RadialFeatures(cutoff, radial_size, radial)
        self.embedding = EdgeFeatures(radial_size, channels)
        self.projection = SphereProjection(rings, orders)
        self.layers = nn.ModuleList(SpinConvolution(channels, hidden, rings, orders) for _ in range(layers))
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.of_edges = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.readout = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        if self.has_force_head:
            self.force_head = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def features(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features (E, F), switches (E, 1) and directions (E, 3) of the edges, and the centers (E,)."""
        edges, edge_vectors = self.neighbor_sums.directed(edges, edge_vectors)
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        switch, directions = radial[:, -1:], edge_vectors / distances.unsqueeze(-1)
        first, second = edge_pairs(edges, species.shape[0])
        places, weights = self.projection(directions, first, second)
        features = self.embedding(species, radial, edges)
        for layer in self.layers:
            features = layer(features, switch, places, weights, second)
        return features, switch, directions, edges[0]

    def energies(self, features: Tensor, switch: Tensor, centers: Tensor, n_atoms: int) -> Tensor:
        """Return the energy of each atom (N,) from the features of its edges."""
        hidden = self.of_edges(features) * (self.scale * switch)
        sums = hidden.new_zeros((n_atoms, hidden.shape[1])).index_add(0, centers, hidden)
        energies: Tensor = self.readout(sums).squeeze(-1)
        return energies


class SpinConv(SpinConvFeatures):
    """SpinConv energy network. The arguments are the same as for `SpinConvFeatures`."""

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        features, switch, _, centers = self.features(species, edges, edge_vectors)
        return self.energies(features, switch, centers, species.shape[0])


class DirectSpinConv(SpinConvFeatures):
    """SpinConv network with a force head. The arguments are the same as for `SpinConvFeatures`."""

    has_force_head = True
    head_weights: ClassVar[tuple[str, ...]] = ("readout", "force_head")

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> tuple[Tensor, Tensor]:
        """Return the energy (N,) and force (N, 3) of each atom, in units of the scale of the potential."""
        features, switch, directions, centers = self.features(species, edges, edge_vectors)
        along = self.force_head(features) * (self.scale * switch) * directions
        forces = along.new_zeros((species.shape[0], 3)).index_add(0, centers, along)
        return self.energies(features, switch, centers, species.shape[0]), forces
