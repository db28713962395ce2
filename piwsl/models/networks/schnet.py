"""SchNet: continuous-filter convolutions (Schütt et al. 2017)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.options import Channels, Layers, RadialBasis, RadialSize
from piwsl.models.networks.radial import RADIAL_BASES, PolynomialCutoff, edge_lengths
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex


class ShiftedSoftplus(nn.Module):
    """Activation ``ln(exp(x)/2 + 1/2)`` of SchNet, which is zero at zero and infinitely smooth."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the activation of each element."""
        return nn.functional.softplus(values) - math.log(2.0)


class Interaction(nn.Module):
    """Interaction block of a dense layer, a continuous-filter convolution, and two dense layers."""

    def __init__(self, channels: int, radial_size: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.channels = channels
        self.neighbor_sums = neighbor_sums
        self.filters = nn.Sequential(nn.Linear(radial_size, channels), ShiftedSoftplus(), nn.Linear(channels, channels))
        self.before = nn.Linear(channels, channels, bias=False)
        self.after = nn.Sequential(nn.Linear(channels, channels), ShiftedSoftplus(), nn.Linear(channels, channels))

    def forward(self, scalars: Tensor, radial: Tensor, envelope: Tensor, edges: Edges) -> Tensor:
        """Return scalars (N, F) updated with messages from the neighbors."""
        hidden = self.filters[1](self.filters[0](radial))
        # The envelope multiplies the input of the last, linear layer, whose bias becomes an additional column.
        # (Sequential has no types, and TorchScript accepts no text after "ignore".)
        bias = self.filters[2].bias.unsqueeze(1)  # type: ignore[operator]
        weight = torch.cat((self.filters[2].weight, bias), dim=1)  # type: ignore[arg-type]
        filters = self.neighbor_sums.filters(torch.cat((hidden * envelope, envelope), dim=1), weight, self.channels)[0]
        new_scalars: Tensor = self.after(self.neighbor_sums.scalars(filters, self.before(scalars), edges))
        return scalars + new_scalars


class SchNet(nn.Module):
    """SchNet energy network. The arguments are the same as for `piwsl.models.networks.painn.PaiNN`.

    Filters are as wide as atoms; in the paper on PIWSL they have 256 features.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"cutoff": 6.0, "channels": 1024, "layers": 5, "radial_size": 200, "radial": "gaussian"},
    }
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
        self.radial = RADIAL_BASES[radial](cutoff, radial_size)
        self.envelope = PolynomialCutoff(cutoff)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.interactions = nn.ModuleList(Interaction(channels, radial_size, neighbor_sums) for _ in range(layers))
        self.readout = nn.Sequential(nn.Linear(channels, channels // 2), ShiftedSoftplus(), nn.Linear(channels // 2, 1))

    def forward(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors, structure_index: StructureIndex
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential."""
        edges, edge_vectors = self.neighbor_sums.unique_pairs(edges, edge_vectors)
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        envelope = self.envelope(distances).unsqueeze(-1)
        scalars = self.embedding(species)
        for interaction in self.interactions:
            scalars = interaction(scalars, radial, envelope, edges)
        energies: Tensor = self.readout(scalars).squeeze(-1)
        return energies
