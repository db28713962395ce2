"""Equiformer v2: equivariant graph attention with convolutions in the frames of edges (Liao et al., ICLR 2024).

Each block consists of a graph attention and a feed-forward network for each atom. Both act on normalized coefficients,
and their results are added to the coefficients before the norm. The attention has normalized logits (section 3.2), the
activation on the sphere is separable (section 3.3), and so is the layer norm (section 3.4).

The implementation differs from the paper: nonlinear functions on the sphere are polynomials with exact quadrature, all
edges within the cutoff contribute with a smooth switch, frames are deterministic and differentiable, nothing is dropped
at random, and cosines and sines are coupled only with ``chiral``. The softmax has a one in its denominator:

    a_ij = s_ij exp(z_ij) / (1 + sum_k s_ik exp(z_ik)),

with the switch s. Without the one, a single neighbor would have a weight of one up to the cutoff and of zero beyond it.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.networks.equivariant import ACTIVATIONS, DegreewiseLinear, SeparableLayerNorm, vectors_of
from piwsl.models.networks.options import (
    AttentionHeads,
    Channels,
    Chiral,
    EquivariantActivation,
    HeadChannels,
    HiddenChannels,
    Layers,
    MaxDegree,
    MaxOrder,
    RadialBasis,
    RadialSize,
)
from piwsl.models.networks.so2 import EdgeFeatures, EdgeFrameNetwork, SO2Linear, order_of_rows, to_atoms, to_edges
from piwsl.models.networks.wigner import orders_by_degree, orders_by_order
from piwsl.typing import Edges, EdgeVectors, Species, StructureIndex

# Typical number of neighbors with large contributions. It scales initial sums over neighbors to order one.
TYPICAL_NEIGHBORS = 8.0
# Largest logit of the attention; its exponential is far from overflow in float32.
LARGEST_LOGIT = 20.0
# Size of the energies of a random network, in units of the scale of the potential.
FIRST_RESULTS = 0.3


class SmoothLeakyReLU(nn.Module):
    """Activation ``(1 + a) x / 2 + (1 - a) x (2 sigmoid(x) - 1) / 2``, a = 0.2 (Liao, Smidt, ICLR 2023, Equiformer)."""

    def __init__(self, leak: float = 0.2) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, values: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return values * (self.leak + (1.0 - self.leak) * torch.sigmoid(values))


class EdgeDegreeEmbedding(nn.Module):
    """Initial coefficients of all degrees, from the directions to the neighbors and features of edges (fig. 1c)."""

    def __init__(self, l_max: int, channels: int, radial_size: int, edge_channels: int) -> None:
        super().__init__()
        self.rows, self.channels = l_max + 1, channels
        self.scale = 1.0 / math.sqrt(TYPICAL_NEIGHBORS)
        self.features = EdgeFeatures(radial_size, edge_channels)
        self.filters = nn.Linear(edge_channels, self.rows * channels)
        nn.init.normal_(self.filters.weight, std=1.0 / math.sqrt(edge_channels))

    def forward(
        self, species: Species, rotations: Tensor, radial: Tensor, switch: Tensor, edges: Edges, n_atoms: int
    ) -> Tensor:
        """Return coefficients (N, K, F)."""
        filters = self.filters(self.features(species, radial, edges)) * (self.scale * switch)
        # Coefficients of order zero are the first rows in the frame of an edge.
        along = filters.reshape(-1, self.rows, self.channels)
        return to_atoms(rotations[:, : self.rows], along, edges, n_atoms)


class GraphAttention(nn.Module):
    """Attention over the neighbors (section 3.2).

    Args:
        l_max: Largest degree.
        m_max: Largest order.
        channels: Number of channels F of an atom.
        outputs: Number of channels G of the result.
        heads: Number of attention heads.
        hidden: Number of hidden channels.
        alpha_channels: Number of features of each head that determine the logits.
        value_channels: Number of features of each head that are summed over the neighbors.
        radial_size: Number of radial functions.
        edge_channels: Number of features of an edge.
        activation: Name of the nonlinearity (``sphere`` or ``gate``).
        chiral: Whether cosines and sines are coupled.
    """

    order_of_row: Tensor

    def __init__(
        self,
        l_max: int,
        m_max: int,
        channels: int,
        outputs: int,
        heads: int,
        hidden: int,
        alpha_channels: int,
        value_channels: int,
        radial_size: int,
        edge_channels: int,
        activation: str,
        chiral: bool,
    ) -> None:
        super().__init__()
        self.width, self.heads = 2 * channels, heads
        self.alpha_channels, self.value_channels = alpha_channels, value_channels
        order_of_row = order_of_rows(l_max, m_max)
        self.filter_rows, self.rows = int(order_of_row.max()) + 1, len(order_of_row)
        self.largest = LARGEST_LOGIT
        self.features = EdgeFeatures(radial_size, edge_channels)
        self.filters = nn.Linear(edge_channels, self.filter_rows * self.width)
        nn.init.normal_(self.filters.weight, std=1.0 / math.sqrt(edge_channels))
        nn.init.ones_(self.filters.bias)
        self.activation = ACTIVATIONS[activation](orders_by_order(l_max, m_max), hidden)
        self.for_logits = heads * alpha_channels
        extra = self.for_logits + self.activation.scalars
        self.first = SO2Linear(l_max, m_max, self.width, hidden, extra, chiral)
        self.second = SO2Linear(l_max, m_max, hidden, heads * value_channels, chiral=chiral)
        self.norm = nn.LayerNorm(alpha_channels)
        self.leaky = SmoothLeakyReLU()
        self.logits = nn.Parameter(torch.randn(heads, alpha_channels) / math.sqrt(alpha_channels))
        self.last = DegreewiseLinear(l_max, heads * value_channels, outputs)
        self.register_buffer("order_of_row", order_of_row, persistent=False)

    def forward(
        self, species: Species, values: Tensor, rotations: Tensor, radial: Tensor, switch: Tensor, edges: Edges
    ) -> Tensor:
        """Map coefficients (N, K, F) to coefficients (N, K, G)."""
        filters = self.filters(self.features(species, radial, edges)).reshape(-1, self.filter_rows, self.width)
        pairs = to_edges(rotations, values, edges) * filters.index_select(1, self.order_of_row)
        hidden, extra = self.first(pairs)
        for_logits, scalars = extra.split_with_sizes([self.for_logits, extra.shape[1] - self.for_logits], dim=-1)
        messages = self.second(self.activation(hidden, scalars))[0]
        weights = self.weights(for_logits, switch, edges, values.shape[0])
        shape = (-1, self.rows, self.heads, self.value_channels)
        weighted = messages.reshape(shape) * weights.unsqueeze(1).unsqueeze(3)
        summed: Tensor = self.last(to_atoms(rotations, weighted.flatten(2), edges, values.shape[0]))
        return summed

    def weights(self, for_logits: Tensor, switch: Tensor, edges: Edges, n_atoms: int) -> Tensor:
        """Return the attention weights (E, heads) from features (E, heads A) and cutoff switches (E, 1)."""
        # Without this conversion, the derivatives of the layer norm would have mixed types.
        split = for_logits.reshape(-1, self.heads, self.alpha_channels).to(self.logits.dtype)
        logits = (self.leaky(self.norm(split)) * self.logits).sum(-1)
        powers = torch.exp(self.largest * torch.tanh(logits / self.largest)) * switch
        total = powers.new_ones((n_atoms, self.heads)).index_add(0, edges[0], powers)
        return powers / total.index_select(0, edges[0])


class FeedForward(nn.Module):
    """Feed-forward network for the coefficients of each atom (fig. 1d)."""

    def __init__(self, l_max: int, channels: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation](orders_by_degree(l_max), hidden)
        self.scalars = nn.Linear(channels, self.activation.scalars)
        self.first = DegreewiseLinear(l_max, channels, hidden)
        self.last = DegreewiseLinear(l_max, hidden, channels)
        nn.init.normal_(self.scalars.weight, std=1.0 / math.sqrt(channels))

    def forward(self, values: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to coefficients (N, K, F)."""
        result: Tensor = self.last(self.activation(self.first(values), self.scalars(values[:, 0])))
        return result


class Block(nn.Module):
    """Graph attention and feed-forward network, each with a layer norm before it and a skip connection (fig. 1b)."""

    def __init__(self, attention: GraphAttention, l_max: int, channels: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.first_norm = SeparableLayerNorm(l_max, channels)
        self.attention = attention
        self.second_norm = SeparableLayerNorm(l_max, channels)
        self.feed_forward = FeedForward(l_max, channels, hidden, activation)

    def forward(
        self, species: Species, values: Tensor, rotations: Tensor, radial: Tensor, switch: Tensor, edges: Edges
    ) -> Tensor:
        """Update coefficients (N, K, F)."""
        normalized = self.first_norm(values)
        values = values + self.attention(species, normalized, rotations, radial, switch, edges)
        updated: Tensor = values + self.feed_forward(self.second_norm(values))
        return updated


class EquiformerV2Features(EdgeFrameNetwork):
    """Blocks of Equiformer v2 up to the normalized coefficients of each atom.

    Args:
        cutoff: Interaction range, angstrom.
        channels: Number of channels F of an atom.
        layers: Number of blocks.
        l_max: Largest degree of the coefficients.
        m_max: Largest order in the frame of an edge.
        heads: Number of attention heads.
        hidden: Number of hidden channels of the attention.
        alpha_channels: Number of features of each head that determine the logits.
        value_channels: Number of features of each head that are summed over the neighbors.
        feed_forward: Number of hidden channels in the feed-forward networks and in the readout.
        edge_channels: Number of features of an edge.
        radial_size: Number of radial functions.
        radial: Name of the radial basis (``bessel`` or ``gaussian``).
        activation: Nonlinearity for coefficients. With ``sphere``, it acts on the sphere as in the paper. With
            ``gate``, scalars are activated and gate the other degrees.
        chiral: Couple cosines with sines, as in the paper. The energies of mirror images then differ.
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.

    Raises:
        ConfigError: ``m_max`` is larger than ``l_max``.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The version with 31 million weights.
        "paper": {
            "cutoff": 12.0,
            "channels": 128,
            "layers": 8,
            "l_max": 4,
            "m_max": 2,
            "heads": 8,
            "hidden": 64,
            "alpha_channels": 64,
            "value_channels": 16,
            "feed_forward": 128,
            "edge_channels": 128,
            "radial_size": 600,
            "radial": "gaussian",
            "activation": "sphere",
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
        heads: AttentionHeads = 4,
        hidden: HiddenChannels = 32,
        alpha_channels: HeadChannels = 16,
        value_channels: HeadChannels = 8,
        feed_forward: HiddenChannels = 64,
        edge_channels: HiddenChannels = 32,
        radial_size: RadialSize = 20,
        radial: RadialBasis = "bessel",
        activation: EquivariantActivation = "sphere",
        chiral: Chiral = False,
        neighbor_sums: NeighborSums | None = None,
    ) -> None:
        super().__init__(cutoff, channels, l_max, m_max, radial_size, radial, neighbor_sums)
        self.edge_degree = EdgeDegreeEmbedding(l_max, channels, radial_size, edge_channels)

        def attention(outputs: int) -> GraphAttention:
            per_head = (heads, hidden, alpha_channels, value_channels)
            return GraphAttention(
                l_max, m_max, channels, outputs, *per_head, radial_size, edge_channels, activation, chiral
            )

        blocks = [Block(attention(channels), l_max, channels, feed_forward, activation) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = SeparableLayerNorm(l_max, channels)
        last = nn.Linear(feed_forward, 1)
        nn.init.normal_(last.weight, std=FIRST_RESULTS / math.sqrt(feed_forward))
        nn.init.zeros_(last.bias)
        self.readout = nn.Sequential(nn.Linear(channels, feed_forward), nn.SiLU(), last)
        if self.has_force_head:
            self.force_head = attention(1)

    def features(self, species: Species, edges: Edges, edge_vectors: EdgeVectors) -> tuple[Tensor, list[Tensor]]:
        """Return coefficients (N, K, F) of the atoms, and a list of edges, rotations, radial features and switches."""
        values, edges, rotations, radial, switch = self.embedded(species, edges, edge_vectors)
        values = values + self.edge_degree(species, rotations, radial, switch, edges, species.shape[0])
        for block in self.blocks:
            values = block(species, values, rotations, radial, switch, edges)
        return self.norm(values), [edges, rotations, radial, switch]


class EquiformerV2(EquiformerV2Features):
    """Equiformer v2 energy network. The arguments are the same as for `EquiformerV2Features`."""

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        values, _ = self.features(species, edges, edge_vectors)
        energies: Tensor = self.readout(values[:, 0]).squeeze(-1)
        return energies


class DirectEquiformerV2(EquiformerV2Features):
    """Equiformer v2 network with a force head. The arguments are the same as for `EquiformerV2Features`."""

    has_force_head = True
    head_weights: ClassVar[tuple[str, ...]] = ("readout", "force_head")

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> tuple[Tensor, Tensor]:
        """Return the energy (N,) and force (N, 3) of each atom, in units of the scale of the potential."""
        values, geometry = self.features(species, edges, edge_vectors)
        edges, rotations, radial, switch = geometry
        forces = vectors_of(self.force_head(species, values, rotations, radial, switch, edges))
        return self.readout(values[:, 0]).squeeze(-1), forces
