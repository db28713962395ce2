"""eSCN: equivariant spherical channel network (Passaro, Zitnick, ICML 2023).

The channels of an atom are functions on the sphere, which are represented by coefficients up to degree l_max. Messages
are computed in the frame of each edge. In this frame, equivariant maps are small matrices for each order (section 3).
A small network at the points of the sphere updates the atoms (section 4).

The implementation differs from the paper: nonlinear functions on the sphere are polynomials with exact quadrature, all
edges within the cutoff contribute with a smooth switch, frames are deterministic and differentiable, and cosines and
sines are coupled only with ``chiral``.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.networks.equivariant import PointwiseLinear, vectors_of
from piwsl.models.networks.options import (
    Channels,
    Chiral,
    HiddenChannels,
    Layers,
    MaxDegree,
    MaxOrder,
    RadialBasis,
    RadialSize,
)
from piwsl.models.networks.so2 import EdgeFeatures, EdgeFrameNetwork, SO2Linear, to_atoms, to_edges
from piwsl.models.networks.sphere import SphereActivation
from piwsl.models.networks.wigner import orders_by_degree, orders_by_order
from piwsl.typing import Edges, EdgeVectors, Species, StructureIndex

# Typical number of neighbors with large contributions. It scales initial sums over neighbors to order one.
TYPICAL_NEIGHBORS = 8.0
# Size of the energies and direct forces of a random network, in units of the scale of the potential.
FIRST_RESULTS = 0.3


class Message(nn.Module):
    """Sum of the messages from the neighbors (section 4.1).

    In the frame of the edge, the coefficients of both atoms are mapped to one row of hidden features for each cosine
    or sine. The rows are multiplied by filters, which depend on the length and the elements. The result is mapped back
    to all degrees and activated.
    """

    order_of_row: Tensor

    def __init__(self, l_max: int, m_max: int, channels: int, hidden: int, radial_size: int, chiral: bool) -> None:
        super().__init__()
        self.orders, self.hidden = m_max + 1, hidden
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.features = EdgeFeatures(radial_size, channels)
        self.filters = nn.Linear(channels, self.orders * hidden)
        nn.init.normal_(self.filters.weight, std=1.0 / math.sqrt(channels))
        nn.init.ones_(self.filters.bias)
        self.first = SO2Linear(l_max, m_max, 2 * channels, hidden, chiral=chiral, joined="out")
        self.second = SO2Linear(l_max, m_max, hidden, channels, chiral=chiral, joined="in")
        self.activation = SphereActivation(orders_by_order(l_max, m_max))
        order_of_row = [0, *(order for order in range(1, m_max + 1) for _ in range(2))]
        self.register_buffer("order_of_row", torch.tensor(order_of_row), persistent=False)

    def forward(
        self, species: Species, values: Tensor, rotations: Tensor, radial: Tensor, switch: Tensor, edges: Edges
    ) -> Tensor:
        """Map coefficients (N, K, F) to summed messages (N, K, F)."""
        filters = self.filters(self.features(species, radial, edges)).reshape(-1, self.orders, self.hidden)
        hidden = self.first(to_edges(rotations, values, edges))[0] * filters.index_select(1, self.order_of_row)
        messages = self.activation(self.second(hidden)[0]) * (self.scale * switch).unsqueeze(2)
        return to_atoms(rotations, messages, edges, values.shape[0])


class PointwiseNetwork(nn.Module):
    """A small network at each point of the sphere, with two hidden layers (section 4.2).

    Args:
        l_max: Largest degree.
        inputs: Number of channels F.
        hidden: Number of hidden channels.
        outputs: Number of channels G.
        gain: Size of the initial results.
    """

    def __init__(self, l_max: int, inputs: int, hidden: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.first = PointwiseLinear(inputs, hidden)
        self.second = PointwiseLinear(hidden, hidden, gain=2.0)
        self.last = PointwiseLinear(hidden, outputs, gain)
        self.activation = SphereActivation(orders_by_degree(l_max))

    def forward(self, values: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to coefficients (N, K, G)."""
        hidden = self.activation(self.first(values))
        result: Tensor = self.last(self.activation(self.second(hidden)))
        return result


class Layer(nn.Module):
    """Messages from the neighbors, and update of each atom."""

    def __init__(self, l_max: int, m_max: int, channels: int, hidden: int, radial_size: int, chiral: bool) -> None:
        super().__init__()
        self.message = Message(l_max, m_max, channels, hidden, radial_size, chiral)
        self.update = PointwiseNetwork(l_max, 2 * channels, hidden, channels)

    def forward(
        self, species: Species, values: Tensor, rotations: Tensor, radial: Tensor, switch: Tensor, edges: Edges
    ) -> Tensor:
        """Update coefficients (N, K, F)."""
        messages = self.message(species, values, rotations, radial, switch, edges)
        updated: Tensor = values + self.update(torch.cat((values, messages), dim=-1))
        return updated


class ESCNFeatures(EdgeFrameNetwork):
    """Layers of eSCN up to the coefficients of each atom.

    Args:
        cutoff: Interaction range, angstrom.
        channels: Number of channels F of an atom. Each channel is a function on the sphere.
        layers: Number of layers.
        l_max: Largest degree of the coefficients.
        m_max: Largest order in the frame of an edge.
        hidden: Number of hidden channels.
        radial_size: Number of radial functions.
        radial: Name of the radial basis (``bessel`` or ``gaussian``).
        chiral: Couple cosines with sines, as in the paper. The energies of mirror images then differ.
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.

    Raises:
        ConfigError: ``m_max`` is larger than ``l_max``.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The version with 12 layers, which the paper on PIWSL uses.
        "paper": {
            "cutoff": 12.0,
            "channels": 128,
            "layers": 12,
            "l_max": 6,
            "m_max": 2,
            "hidden": 256,
            "radial_size": 600,
            "radial": "gaussian",
            "chiral": True,
        },
    }
    head_weights: ClassVar[tuple[str, ...]] = ("readout",)

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: Channels = 32,
        layers: Layers = 2,
        l_max: MaxDegree = 2,
        m_max: MaxOrder = 2,
        hidden: HiddenChannels = 64,
        radial_size: RadialSize = 20,
        radial: RadialBasis = "bessel",
        chiral: Chiral = False,
        neighbor_sums: NeighborSums | None = None,
    ) -> None:
        super().__init__(cutoff, channels, l_max, m_max, radial_size, radial, neighbor_sums)
        sizes = (l_max, m_max, channels, hidden, radial_size, chiral)
        self.layers = nn.ModuleList(Layer(*sizes) for _ in range(layers))
        self.readout = PointwiseNetwork(l_max, channels, hidden, 1, FIRST_RESULTS)
        if self.has_force_head:
            self.force_head = PointwiseNetwork(l_max, channels, hidden, 1, FIRST_RESULTS)

    def features(self, species: Species, edges: Edges, edge_vectors: EdgeVectors) -> Tensor:
        """Return the coefficients (N, K, F) of each atom after the last layer."""
        values, edges, rotations, radial, switch = self.embedded(species, edges, edge_vectors)
        for layer in self.layers:
            values = layer(species, values, rotations, radial, switch, edges)
        return values


class ESCN(ESCNFeatures):
    """eSCN energy network. The arguments are the same as for `ESCNFeatures`."""

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        # The mean over the sphere is the coefficient of degree zero (section 4.3).
        energies: Tensor = self.readout(self.features(species, edges, edge_vectors))[:, 0, 0]
        return energies


class DirectESCN(ESCNFeatures):
    """eSCN network with a force head. The arguments are the same as for `ESCNFeatures`."""

    has_force_head = True
    head_weights: ClassVar[tuple[str, ...]] = ("readout", "force_head")

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> tuple[Tensor, Tensor]:
        """Return the energy (N,) and force (N, 3) of each atom, in units of the scale of the potential."""
        values = self.features(species, edges, edge_vectors)
        # The coefficients of degree one are the integral of the direction times the function over the sphere.
        return self.readout(values)[:, 0, 0], vectors_of(self.force_head(values))
