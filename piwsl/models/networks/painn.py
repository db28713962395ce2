"""PaiNN: equivariant message passing with scalars and vectors (Schütt, Unke, Gastegger 2021)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.electronic import ElectronicEmbedding
from piwsl.models.networks.options import Channels, Layers, RadialBasis, RadialSize
from piwsl.models.networks.radial import RadialFeatures, edge_lengths
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex

ChargeEmbedding = Annotated[bool, Field(description="charge and unpaired electrons of a structure as input")]


class FirstMessage(nn.Module):
    """Message block of the first layer, in which all vectors are zero (eqs. 7 and 8 without the v term)."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.context = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 2 * channels))
        self.filters = nn.Linear(radial_size + 1, 2 * channels, bias=False)

    def forward(self, scalars: Tensor, radial: Tensor, directions: EdgeVectors, edges: Edges) -> tuple[Tensor, Tensor]:
        """Map scalars (N, F) to updated scalars (N, F) and vectors (N, 3, F)."""
        for_scalars, for_vectors = self.neighbor_sums.filters(radial, self.filters.weight, self.channels)
        to_scalars, to_vectors = self.context(scalars).split(self.channels, dim=-1)
        new_scalars = self.neighbor_sums.scalars(for_scalars, to_scalars, edges)
        vectors = self.neighbor_sums.outer(for_vectors, to_vectors, directions, -1.0, edges)
        return scalars + new_scalars, vectors


class Message(nn.Module):
    """Message block, which sums messages from the neighbors (eqs. 7 and 8)."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.context = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))
        self.filters = nn.Linear(radial_size + 1, 3 * channels, bias=False)

    def forward(
        self,
        scalars: Tensor,
        vectors: Tensor,
        radial: Tensor,
        directions: EdgeVectors,
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and vectors (N, 3, F) from the messages of the neighbors."""
        for_scalars, for_vectors, for_carried = self.neighbor_sums.filters(radial, self.filters.weight, self.channels)
        to_scalars, to_vectors, to_carried = self.context(scalars).split(self.channels, dim=-1)
        new_scalars = self.neighbor_sums.scalars(for_scalars, to_scalars, edges)
        new_vectors = self.neighbor_sums.outer(for_vectors, to_vectors, directions, -1.0, edges)
        carried = self.neighbor_sums.vectors(for_carried, to_carried.unsqueeze(1) * vectors, edges)
        return scalars + new_scalars, vectors + new_vectors + carried


class Update(nn.Module):
    """Update block within an atom (eqs. 9 and 10)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.context = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and vectors (N, 3, F) of each atom."""
        left, right = self.mix(vectors).split(self.channels, dim=-1)
        # The small constant keeps the gradient of the norm finite for vectors that vanish by symmetry.
        norm = torch.sqrt((right * right).sum(1) + 1e-8)
        own, mixing, turning = self.context(torch.cat((scalars, norm), dim=-1)).split(self.channels, dim=-1)
        inner = (left * right).sum(1)
        return torch.addcmul(scalars + own, mixing, inner), torch.addcmul(vectors, turning.unsqueeze(1), left)


class LastUpdate(Update):
    """Update block of the last layer, which does not update the vectors because no later layer uses them."""

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and unchanged vectors (N, 3, F)."""
        left, right = self.mix(vectors).split(self.channels, dim=-1)
        norm = torch.sqrt((right * right).sum(1) + 1e-8)
        hidden = self.context[1](self.context[0](torch.cat((scalars, norm), dim=-1)))
        width = 2 * self.channels
        # (Sequential has no types, and TorchScript accepts no text after "ignore".)
        weight = self.context[2].weight[:width]  # type: ignore[index]
        bias = self.context[2].bias[:width]  # type: ignore[index]
        own, mixing = nn.functional.linear(hidden, weight, bias).split(self.channels, dim=-1)
        return torch.addcmul(scalars + own, mixing, (left * right).sum(1)), vectors


class PaiNNFeatures(nn.Module):
    """Layers of PaiNN that compute the features of each atom.

    Args:
        cutoff: Interaction range, angstrom.
        channels: Number of features F of an atom.
        layers: Number of message and update blocks.
        radial_size: Number of radial functions.
        radial: Name of the radial basis (``bessel`` or ``gaussian``).
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.
        charge_embedding: Whether the charge and the number of unpaired electrons of a structure are inputs. The scalars
            of its atoms then contain features of these numbers, which are zero for neutral closed-shell structures.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"cutoff": 12.0, "channels": 512, "layers": 6, "radial_size": 128, "radial": "gaussian"},
    }
    last_update: type[Update] = Update
    head_weights: ClassVar[tuple[str, ...]] = ("readout",)

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: Channels = 64,
        layers: Layers = 3,
        radial_size: RadialSize = 8,
        radial: RadialBasis = "bessel",
        neighbor_sums: NeighborSums | None = None,
        charge_embedding: ChargeEmbedding = False,
    ) -> None:
        super().__init__()
        neighbor_sums = EdgeList() if neighbor_sums is None else neighbor_sums
        self.cutoff = cutoff
        self.neighbor_sums = neighbor_sums
        self.radial = RadialFeatures(cutoff, radial_size, radial)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.first_message = FirstMessage(channels, radial_size, neighbor_sums)
        updates = [Update] * (layers - 1) + [self.last_update]
        self.first_update = updates[0](channels)
        self.messages = nn.ModuleList(Message(channels, radial_size, neighbor_sums) for _ in range(layers - 1))
        self.updates = nn.ModuleList(update(channels) for update in updates[1:])
        self.readout = nn.Sequential(nn.Linear(channels, channels // 2), nn.SiLU(), nn.Linear(channels // 2, 1))
        self.takes_charge = charge_embedding
        self.charge = ElectronicEmbedding(channels) if charge_embedding else None
        self.spin = ElectronicEmbedding(channels) if charge_embedding else None
        for embedding in (self.charge, self.spin):
            if embedding is not None:
                nn.init.normal_(embedding.value)  # the size of the features of elements, which is learned faster

    def embedded(self, species: Species, structure_index: StructureIndex, charge_spin: Tensor | None) -> Tensor:
        """Return the initial scalars (N, F) of each atom."""
        scalars: Tensor = self.embedding(species)
        if self.charge is not None and self.spin is not None and charge_spin is not None:
            charges, unpaired = charge_spin.index_select(0, structure_index).unbind(1)
            scalars = scalars + self.charge(species, charges, structure_index)
            scalars = scalars + self.spin(species, unpaired, structure_index)
        return scalars

    def features(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the scalars (N, F) and vectors (N, 3, F) of each atom after the last layer."""
        edges, edge_vectors = self.neighbor_sums.unique_pairs(edges, edge_vectors)
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        directions = edge_vectors / distances.unsqueeze(-1)
        scalars = self.embedded(species, structure_index, charge_spin)
        scalars, vectors = self.first_message(scalars, radial, directions, edges)
        scalars, vectors = self.first_update(scalars, vectors)
        for message, update in zip(self.messages, self.updates):  # noqa: B905 (TorchScript has no strict)
            scalars, vectors = message(scalars, vectors, radial, directions, edges)
            scalars, vectors = update(scalars, vectors)
        return scalars, vectors


class PaiNN(PaiNNFeatures):
    """PaiNN energy network. The arguments are the same as for `PaiNNFeatures`."""

    last_update = LastUpdate

    def forward(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        charge_spin: Tensor | None = None,
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential.

        With ``charge_embedding``, ``charge_spin`` (S, 2) contains the charge (e) and the number of unpaired electrons
        of each structure.
        """
        scalars, _ = self.features(species, edges, edge_vectors, structure_index, charge_spin)
        energies: Tensor = self.readout(scalars).squeeze(-1)
        return energies


class ForceHead(nn.Module):
    """Gated equivariant block that predicts the force of an atom from its scalars and vectors (fig. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels, bias=False)
        self.gate = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, scalars: Tensor, vectors: Tensor) -> Tensor:
        """Map scalars (N, F) and vectors (N, 3, F) to forces (N, 3)."""
        norm = torch.sqrt((vectors * vectors).sum(1) + 1e-8)
        gate = self.gate(torch.cat((scalars, norm), dim=-1))
        forces: Tensor = (self.mix(vectors) * gate.unsqueeze(1)).mean(-1)
        return forces


class DirectPaiNN(PaiNNFeatures):
    """PaiNN network with a force head. The arguments are the same as for `PaiNNFeatures`."""

    head_weights: ClassVar[tuple[str, ...]] = ("readout", "force_head")

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: Channels = 64,
        layers: Layers = 3,
        radial_size: RadialSize = 8,
        radial: RadialBasis = "bessel",
        neighbor_sums: NeighborSums | None = None,
        charge_embedding: ChargeEmbedding = False,
    ) -> None:
        super().__init__(cutoff, channels, layers, radial_size, radial, neighbor_sums, charge_embedding)
        self.force_head = ForceHead(channels)

    def forward(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the energy (N,) and force (N, 3) of each atom, in units of the scale of the potential."""
        scalars, vectors = self.features(species, edges, edge_vectors, structure_index, charge_spin)
        return self.readout(scalars).squeeze(-1), self.force_head(scalars, vectors)
