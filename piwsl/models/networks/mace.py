"""MACE: message passing with symmetric products of spherical tensors (Batatia et al., NeurIPS 2022).

Equation numbers refer to the paper. The weights include all normalization factors.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from piwsl.errors import ConfigError
from piwsl.models.neighbor_sums.edge_list import EdgeHalves, EdgeList, NeighborSums
from piwsl.models.networks.mace_pairs import AgnesiTransform, Bessel, Envelope, PairRepulsion, RadialNetwork
from piwsl.models.networks.options import RadialSize
from piwsl.models.networks.radial import edge_lengths
from piwsl.models.networks.spherical import SphericalHarmonics
from piwsl.models.networks.spherical_layers import Convolution, DegreeLinear, ElementLinear
from piwsl.models.networks.symmetric_products import SymmetricProducts
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex

InteractionKind = Literal["residual", "agnostic", "density", "residual-density"]
"""Kinds of interactions. Kinds with a density divide the messages by a learned number of neighbors."""

Degree: TypeAlias = Annotated[int, Field(ge=0, le=6)]
# Largest number of monomials of one order in the products. Up to this number, they are found in about five seconds.
MOST_MONOMIALS = 25_000

# It scales initial sums over neighbors and their products to order one. Imported weights contain their own factor.
TYPICAL_NEIGHBORS = 8.0


class MACELayer(nn.Module):
    """Layer with messages from the neighbors (eqs. 8 and 9), products (eqs. 10 and 11) and update (eq. 12).

    Args:
        kind: Kind of the interaction.
        features: Degrees of the features.
        results: Degrees of the updated features.
        largest: Largest degree of directions and messages.
        order: Largest number of factors in the products.
        channels: Number of channels.
        elements: Number of elements.
        radial: Layer sizes of the radial network, from its input to its last hidden layer.
        neighbor_sums: Object that computes the sums over neighbors.
    """

    def __init__(
        self,
        kind: InteractionKind,
        features: tuple[int, ...],
        results: tuple[int, ...],
        largest: int,
        order: int,
        channels: int,
        elements: int,
        radial: list[int],
        neighbor_sums: NeighborSums,
    ) -> None:
        super().__init__()
        self.neighbor_sums = neighbor_sums
        self.channels = channels
        degrees = tuple(range(largest + 1))
        self.residual = kind in ("residual", "residual-density")
        self.sizes = [2 * degree + 1 for degree in features]
        self.convolution = Convolution(features, largest, neighbor_sums)
        self.paths = len(self.convolution.paths)
        self.before = DegreeLinear(features, [channels] * len(features), channels)
        self.filters = RadialNetwork([*radial, self.paths * channels])
        has_density = kind in ("density", "residual-density")
        self.densities = nn.ModuleList([RadialNetwork([radial[0], 1])] if has_density else [])
        multiplicity = [count * channels for count in self.convolution.multiplicity]
        self.after = DegreeLinear(degrees, multiplicity, channels)
        with torch.no_grad():
            for weight in self.after.parameters():
                weight.mul_(1.0 / TYPICAL_NEIGHBORS)
        # A residual interaction adds the features, in degrees that features and results share. Other interactions map
        # the messages with weights for each element.
        kept = tuple(degree for degree in results if degree in features) if self.residual else degrees
        self.skip = ElementLinear(kept, channels, channels, elements)
        self.kept_rows = [row for degree in kept for row in _rows(features, degree)] if self.residual else []
        self.target_rows = [row for degree in kept for row in _rows(results, degree)] if self.residual else []
        self.register_buffer("kept", torch.tensor(self.kept_rows, dtype=torch.int64), persistent=False)
        self.register_buffer("target", torch.tensor(self.target_rows, dtype=torch.int64), persistent=False)
        self.products = SymmetricProducts(largest, results, order, channels, elements)
        self.mix = DegreeLinear(results, [channels] * len(results), channels)
        self.result_sizes = [2 * degree + 1 for degree in results]

    kept: Tensor
    target: Tensor

    def forward(self, features: Tensor, element: Tensor, radial: Tensor, harmonics: Tensor, pairs: Edges) -> Tensor:
        """Map features (N, sum (2 l + 1), C) to updated features.

        Args:
            features: Features of the atoms (N, sum (2 l + 1), C).
            element: Index of each atom's element (N,).
            radial: Radial functions times the switch (P, R) of each pair.
            harmonics: Spherical harmonics (P, D) of the pairs.
            pairs: Pairs (2, P) of the neighbor sums.
        """
        filters = self.neighbor_sums.filters(self.filters.hidden(radial), self.filters.last_weight(), self.channels)
        sent = self.before(list(features.split(self.sizes, dim=1)))
        sums = self.convolution(sent, harmonics, filters, pairs)
        messages = self.after(sums)
        for network in self.densities:
            density = torch.tanh(network(radial) ** 2)
            density = torch.cat((density, density))
            density = density.new_zeros((features.shape[0], 1)).index_add(0, pairs.reshape(-1), density)
            messages = messages / (density + 1.0).unsqueeze(1)
        if not self.residual:
            messages = self.skip(messages, element)
        products = self.products(messages, element)
        updated: Tensor = self.mix(list(products.split(self.result_sizes, dim=1)))
        if self.residual:
            kept = self.skip(features.index_select(1, self.kept), element)
            updated = updated.index_add(1, self.target, kept)
        return updated


class MACE(nn.Module):
    """MACE energy network.

    The energy of an atom is a sum over the layers (eq. 13). Each layer but the last contributes a linear function of
    the scalars. The last layer contributes a small network of the scalars. The second half of the edges must repeat the
    first half in the other direction, as in all batches and neighbor lists of piwsl.

    Args:
        cutoff: Interaction range, angstrom.
        elements: Atomic numbers of the elements that the network supports.
        channels: Number of channels of each degree.
        hidden_degrees: Degrees of the features between layers, ascending from 0.
        largest_degree: Largest degree of directions and messages.
        correlations: Largest number of factors in the products, 1 to 4, one entry for each layer.
        first_interaction: Kind of the first interaction.
        interaction: Kind of all other interactions.
        radial_size: Number of radial functions.
        cutoff_power: Power of the cutoff polynomial.
        radial_layers: Sizes of the hidden layers in the radial networks.
        readout_width: Size of the hidden layer in the last readout.
        pair_repulsion: Whether the screened nuclear repulsion is added.
        last_readout_only: Whether the linear readouts are omitted.
        distance_transform: Transformation of the distances before the radial functions, ``none`` or ``agnesi``.
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeHalves` is used.

    Raises:
        ConfigError: ``hidden_degrees``, ``elements`` or ``correlations`` are invalid.
    """

    own_repulsion: ClassVar[bool] = True
    head_weights: ClassVar[tuple[str, ...]] = ("early_readouts", "readout")
    largest_molecule: ClassVar[int] = 40

    @staticmethod
    def takes_neighbor_sums(options: Mapping[str, Any]) -> bool:
        """Return whether all sums over neighbors are sums of scalars times directions."""
        kinds = (options["first_interaction"], options["interaction"])
        densities = any(kind.endswith("density") for kind in kinds)
        return tuple(options["hidden_degrees"]) == (0,) and not densities and not options["pair_repulsion"]

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """Check that the products are not too many.

        Raises:
            ConfigError: The products have more than `MOST_MONOMIALS` monomials.
        """
        degree, order = options["largest_degree"], max(options["correlations"])
        if math.comb((degree + 1) ** 2 + order - 1, order) > MOST_MONOMIALS:
            raise ConfigError(
                f"largest_degree={degree} with products of order {order} needs too much memory: reduce largest_degree "
                "or correlations"
            )

    def __init__(
        self,
        cutoff: float = 5.0,
        elements: Annotated[
            tuple[int, ...],
            Field(
                max_length=MAX_ATOMIC_NUMBER,
                description="atomic numbers; empty: those of the frames, for random weights",
            ),
        ] = (),
        channels: Annotated[int, Field(ge=1, le=1024, description="channels of each degree")] = 64,
        hidden_degrees: Annotated[
            tuple[Degree, ...], Field(min_length=1, max_length=7, description="degrees of features")
        ] = (0, 1),
        largest_degree: Annotated[Degree, Field(description="largest degree of directions")] = 3,
        correlations: Annotated[
            tuple[int, ...], Field(min_length=1, max_length=12, description="order of products of each layer")
        ] = (3, 3),
        first_interaction: Annotated[InteractionKind, Field(description="first interaction")] = "residual",
        interaction: Annotated[InteractionKind, Field(description="other interactions")] = "residual",
        radial_size: RadialSize = 8,
        cutoff_power: Annotated[int, Field(ge=2, le=20, description="power of the cutoff polynomial")] = 6,
        radial_layers: Annotated[
            tuple[Annotated[int, Field(ge=1, le=1024)], ...],
            Field(max_length=8, description="hidden layers of radial networks"),
        ] = (64, 64, 64),
        readout_width: Annotated[int, Field(ge=1, le=1024, description="hidden layer of the last readout")] = 16,
        pair_repulsion: Annotated[bool, Field(description="repulsion of nuclei")] = False,
        last_readout_only: Annotated[bool, Field(description="only the readout of the last layer")] = False,
        distance_transform: Annotated[
            Literal["none", "agnesi"], Field(description="transformation of distances")
        ] = "none",
        neighbor_sums: NeighborSums | None = None,
    ) -> None:
        super().__init__()
        if sorted(set(hidden_degrees)) != list(hidden_degrees) or hidden_degrees[0] != 0:
            raise ConfigError(f"model.hidden_degrees: {list(hidden_degrees)} must ascend from 0")
        known = all(1 <= number <= MAX_ATOMIC_NUMBER for number in elements)
        if not elements or not known or len(set(elements)) != len(elements):
            raise ConfigError(f"model.elements: {list(elements)} must be different atomic numbers")
        if not all(1 <= order <= 4 for order in correlations):
            raise ConfigError(f"model.correlations: {list(correlations)}: products have 1 to 4 factors")
        if neighbor_sums is None or type(neighbor_sums) is EdgeList:
            neighbor_sums = EdgeHalves()
        self.neighbor_sums = neighbor_sums
        self.cutoff = cutoff
        index = torch.full((MAX_ATOMIC_NUMBER + 1,), len(elements), dtype=torch.int64)
        index[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index", index, persistent=False)
        self.radial = Bessel(cutoff, radial_size)
        self.transforms = nn.ModuleList([AgnesiTransform()] if distance_transform == "agnesi" else [])
        self.switch = Envelope(cutoff, cutoff_power)
        self.harmonics = SphericalHarmonics(largest_degree, "component")
        self.embedding = nn.Embedding(len(elements), channels)
        layers: list[MACELayer] = []
        features: tuple[int, ...] = (0,)
        for number, order in enumerate(correlations):
            last = number == len(correlations) - 1
            results = (0,) if last else hidden_degrees
            kind = interaction if number else first_interaction
            sizes = [radial_size, *radial_layers]
            shape = (largest_degree, order, channels, len(elements))
            layers.append(MACELayer(kind, features, results, *shape, sizes, neighbor_sums))
            features = results
        self.layers = nn.ModuleList(layers)
        self.early_readouts = nn.ModuleList(nn.Linear(channels, 1, bias=False) for _ in correlations[1:])
        self.last_readout_only = last_readout_only
        self.readout = nn.Sequential(
            nn.Linear(channels, readout_width, bias=False), nn.SiLU(), nn.Linear(readout_width, 1, bias=False)
        )
        # TorchScript compiles a loop over an empty list of modules, but not a call of a module that may be None.
        self.repulsions = nn.ModuleList([PairRepulsion(cutoff_power)] if pair_repulsion else [])

    index: Tensor

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        element = self.index.index_select(0, species)
        pairs, vectors = self.neighbor_sums.unique_pairs(edges, edge_vectors)
        distances = edge_lengths(vectors)
        switch = self.switch(distances).unsqueeze(1)
        transformed = distances
        for transform in self.transforms:
            transformed = transform(species, pairs, distances)
        radial = self.radial(transformed) * switch
        harmonics = self.harmonics(vectors / distances.unsqueeze(1))
        features = self.embedding(element).unsqueeze(1)
        energies = torch.zeros_like(features[:, 0, 0])
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            features = layer(features, element, radial, harmonics, pairs)
            if number < last and not self.last_readout_only:
                for place, readout in enumerate(self.early_readouts):
                    if place == number:
                        energies = energies + readout(features[:, 0]).squeeze(1)
        energies = energies + self.readout(features[:, 0]).squeeze(1)
        for repulsion in self.repulsions:
            shares = repulsion(species, pairs, distances)
            energies = energies.index_add(0, pairs[0], shares).index_add(0, pairs[1], shares)
        atomic: Tensor = energies
        return atomic


def _rows(degrees: tuple[int, ...], degree: int) -> list[int]:
    """Return the rows of one degree in tensors with the given degrees."""
    start = sum(2 * other + 1 for other in degrees if other < degree)
    return list(range(start, start + 2 * degree + 1))
