"""Convolutions in the frames of edges: linear maps that commute with rotations about the edge.

In the frame of an edge (`wigner.py`), the coefficients of order m form complex numbers, cosine + i sine. A rotation
about the edge by an angle a multiplies them by exp(i m a). A map that commutes with all such rotations mixes the
degrees and channels of one order with complex weights (Passaro, Zitnick 2023, section 3.2; Liao et al. 2023,
section 3):

    y_m + i y_-m = (W + i V) (x_m + i x_-m).

In the mirror image of a structure, all sines have the opposite sign. The energies of mirror images are equal only if
V = 0. The remaining maps correspond to the tensor products that conserve parity. The papers keep V. Here, the option
``chiral`` includes it.

Coefficients in the frame of an edge have the shape (E, rows, F), with rows as in `wigner.orders_by_order`. Coefficients
of atoms have the shape (N, (l_max + 1)^2, F).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import EdgeList, NeighborSums
from piwsl.models.networks.options import check_orders
from piwsl.models.networks.radial import RadialFeatures, edge_lengths
from piwsl.models.networks.wigner import EdgeRotations
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species


class _OneOrder(nn.Module):
    """Map of the cosines and sines of one order m > 0."""

    def __init__(self, rows: tuple[int, int], inputs: int, outputs: int, chiral: bool) -> None:
        super().__init__()
        self.width_in, self.rows_out, self.outputs = rows[0] * inputs, rows[1], outputs
        self.chiral = chiral
        self.linear = nn.Linear(self.width_in, (2 if chiral else 1) * rows[1] * outputs, bias=False)
        # Both parts of a complex weight contribute to each result.
        nn.init.normal_(self.linear.weight, std=1.0 / math.sqrt((2 if chiral else 1) * self.width_in))

    def forward(self, values: Tensor) -> Tensor:
        """Map cosines and sines (E, 2 rows, F) to (E, 2 rows, G)."""
        mixed: Tensor = self.linear(values.reshape(values.shape[0], 2, self.width_in))
        if self.chiral:
            direct, crossed = mixed.chunk(2, dim=-1)
            cosines, sines = crossed.unbind(1)
            mixed = direct + torch.stack((-sines, cosines), dim=1)
        return mixed.reshape(values.shape[0], 2 * self.rows_out, self.outputs)


class SO2Linear(nn.Module):
    """Linear map in the frame of an edge.

    Args:
        l_max: Largest degree.
        m_max: Largest order.
        inputs: Number of channels F.
        outputs: Number of channels G.
        extra: Number of additional invariant results, which are computed from the coefficients of order 0.
        chiral: Whether cosines and sines are coupled.
        joined: Side that has one row for each cosine or sine, ``in`` or ``out``. The other side has one row for each
            degree. With an empty text, both sides have one row for each degree.
    """

    def __init__(
        self,
        l_max: int,
        m_max: int,
        inputs: int,
        outputs: int,
        extra: int = 0,
        chiral: bool = False,
        joined: str = "",
    ) -> None:
        super().__init__()
        sizes = [l_max + 1 - order for order in range(m_max + 1)]
        rows = [(1 if joined == "in" else size, 1 if joined == "out" else size) for size in sizes]
        self.sizes = [rows[0][0], *(2 * size for size, _ in rows[1:])]
        self.width_in, self.rows_out = rows[0][0] * inputs, rows[0][1]
        self.outputs, self.extra = outputs, extra
        self.invariant = nn.Linear(self.width_in, rows[0][1] * outputs + extra)
        nn.init.normal_(self.invariant.weight, std=1.0 / math.sqrt(self.width_in))
        nn.init.zeros_(self.invariant.bias)
        self.orders = nn.ModuleList(_OneOrder(row, inputs, outputs, chiral) for row in rows[1:])

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Map coefficients (E, rows, F) to coefficients (E, rows, G) and invariants (E, extra)."""
        n_edges = values.shape[0]
        parts = values.split_with_sizes(self.sizes, dim=1)
        mixed = self.invariant(parts[0].reshape(n_edges, self.width_in))
        first, extra = mixed.split_with_sizes([self.rows_out * self.outputs, self.extra], dim=-1)
        results = [first.reshape(n_edges, self.rows_out, self.outputs)]
        for number, order in enumerate(self.orders):
            results.append(order(parts[1 + number]))
        return torch.cat(results, dim=1), extra


def order_of_rows(l_max: int, m_max: int) -> Tensor:
    """Return the index of the filter for each row in the frame of an edge.

    The cosine and the sine of equal degree and order |m| share a filter.
    """
    rows: list[int] = []
    start = 0
    for order in range(m_max + 1):
        size = l_max + 1 - order
        rows += list(range(start, start + size)) * (1 if order == 0 else 2)
        start += size
    return torch.tensor(rows)


class EdgeFeatures(nn.Module):
    """Features of an edge from its length and the two elements.

    A linear layer for one-hot elements is implemented as a table.
    """

    def __init__(self, radial_size: int, width: int) -> None:
        super().__init__()
        self.radial = nn.Linear(radial_size + 1, width)
        self.center = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.neighbor = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.second = nn.Linear(width, width)
        with torch.no_grad():
            # The sum of the three parts is of order one. Radial functions are of order 1/4, but larger weights for them
            # would make random potentials rough.
            nn.init.normal_(self.radial.weight, std=2.0 / math.sqrt(3.0 * radial_size))
            for table in (self.center, self.neighbor):
                nn.init.normal_(table.weight, std=1.0 / math.sqrt(3.0))
            nn.init.normal_(self.second.weight, std=1.0 / math.sqrt(width))

    def forward(self, species: Species, radial: Tensor, edges: Edges) -> Tensor:
        """Map species (N,) and radial features (E, R + 1) to features (E, F)."""
        hidden = self.radial(radial)
        hidden = hidden + self.center(species).index_select(0, edges[0])
        hidden = hidden + self.neighbor(species).index_select(0, edges[1])
        features: Tensor = nn.functional.silu(self.second(nn.functional.silu(hidden)))
        return features


class EdgeGeometry(nn.Module):
    """Rotations to the frames of edges, radial features, and cutoff switches.

    Args:
        cutoff: Interaction range, angstrom.
        l_max: Largest degree.
        m_max: Largest order in the frame of an edge.
        radial_size: Number of radial functions.
        radial: Name of the radial basis.
    """

    def __init__(self, cutoff: float, l_max: int, m_max: int, radial_size: int, radial: str) -> None:
        super().__init__()
        self.radial = RadialFeatures(cutoff, radial_size, radial)
        self.rotations = EdgeRotations(l_max, m_max)

    def forward(self, edge_vectors: EdgeVectors) -> tuple[Tensor, Tensor, Tensor]:
        """Map edge vectors (E, 3) to rotations (E, rows, K), radial features (E, R + 1) and switches (E, 1)."""
        distances = edge_lengths(edge_vectors)
        radial = self.radial(distances)
        rotations = self.rotations(edge_vectors / distances.unsqueeze(-1))
        return rotations, radial, radial[:, -1:]


def to_edges(rotations: Tensor, values: Tensor, edges: Edges) -> Tensor:
    """Rotate the coefficients of both atoms, (N, K, F), to the frames of the edges, (E, rows, 2F)."""
    centers, neighbors = values.index_select(0, edges[0]), values.index_select(0, edges[1])
    return torch.bmm(rotations, torch.cat((centers, neighbors), dim=-1))


def to_atoms(rotations: Tensor, messages: Tensor, edges: Edges, n_atoms: int) -> Tensor:
    """Rotate messages (E, rows, F) back from the frames of the edges and sum them at the centers, (N, K, F)."""
    turned = torch.bmm(rotations.transpose(1, 2), messages)
    return turned.new_zeros((n_atoms, turned.shape[1], turned.shape[2])).index_add(0, edges[0], turned)


class EdgeFrameNetwork(nn.Module):
    """Base class of networks that compute messages in the frames of edges: geometry and first coefficients.

    Args:
        cutoff: Interaction range, angstrom.
        channels: Number of channels F of an atom.
        l_max: Largest degree of the coefficients.
        m_max: Largest order in the frame of an edge.
        radial_size: Number of radial functions.
        radial: Name of the radial basis (``bessel`` or ``gaussian``).
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.

    Raises:
        ConfigError: ``m_max`` is larger than ``l_max``.
    """

    check_options = staticmethod(check_orders)
    # Rotations of all pairs are expensive.
    largest_molecule: ClassVar[int] = 40
    has_force_head: ClassVar[bool] = False

    def __init__(
        self,
        cutoff: float,
        channels: int,
        l_max: int,
        m_max: int,
        radial_size: int,
        radial: str,
        neighbor_sums: NeighborSums | None,
    ) -> None:
        super().__init__()
        check_orders({"l_max": l_max, "m_max": m_max})
        self.cutoff = cutoff
        self.neighbor_sums = EdgeList() if neighbor_sums is None else neighbor_sums
        self.above_scalar = (l_max + 1) ** 2 - 1
        self.geometry = EdgeGeometry(cutoff, l_max, m_max, radial_size, radial)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)

    def embedded(
        self, species: Species, edges: Edges, edge_vectors: EdgeVectors
    ) -> tuple[Tensor, Edges, Tensor, Tensor, Tensor]:
        """Return the first coefficients (N, K, F), directed edges (2, E), and the results of `EdgeGeometry`."""
        edges, edge_vectors = self.neighbor_sums.directed(edges, edge_vectors)
        rotations, radial, switch = self.geometry(edge_vectors)
        values = nn.functional.pad(self.embedding(species).unsqueeze(1), [0, 0, 0, self.above_scalar])
        return values, edges, rotations, radial, switch
