"""Layers for spherical tensors (N, sum (2 l + 1), C): linear maps for each degree, and convolutions with directions."""

import math

import torch
from torch import Tensor, nn

from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.networks.spherical import coupling
from piwsl.typing import Edges


class DegreeLinear(nn.Module):
    """Linear maps of channels with separate weights for each degree.

    Args:
        degrees: Degrees of the tensors.
        inputs: Number of input channels of each degree.
        outputs: Number of output channels.
    """

    def __init__(self, degrees: tuple[int, ...], inputs: list[int], outputs: int) -> None:
        super().__init__()
        self.sizes = [2 * degree + 1 for degree in degrees]
        maps = [nn.Linear(size, outputs, bias=False) for size in inputs]
        for linear in maps:
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        self.maps = nn.ModuleList(maps)

    def forward(self, tensors: list[Tensor]) -> Tensor:
        """Map tensors (N, 2 l + 1, inputs) of each degree to tensors (N, sum (2 l + 1), outputs)."""
        results: list[Tensor] = []
        for number, linear in enumerate(self.maps):
            results.append(linear(tensors[number]))
        return torch.cat(results, dim=1)


class ElementLinear(nn.Module):
    """Linear maps of channels with separate weights for each degree and element.

    Args:
        degrees: Degrees of the tensors.
        inputs: Number of input channels.
        outputs: Number of output channels.
        elements: Number of elements.
    """

    def __init__(self, degrees: tuple[int, ...], inputs: int, outputs: int, elements: int) -> None:
        super().__init__()
        self.sizes = [2 * degree + 1 for degree in degrees]
        weights = torch.randn(len(degrees), elements, inputs, outputs) / math.sqrt(inputs)
        self.weights = nn.Parameter(weights)

    def forward(self, tensors: Tensor, element: Tensor) -> Tensor:
        """Map tensors (N, sum (2 l + 1), inputs) and element indices (N,) to tensors (N, sum (2 l + 1), outputs)."""
        results: list[Tensor] = []
        start = 0
        for number, size in enumerate(self.sizes):
            weights = self.weights[number].index_select(0, element)
            results.append(torch.bmm(tensors[:, start : start + size], weights))
            start += size
        return torch.cat(results, dim=1)


def convolution_paths(features: tuple[int, ...], largest: int, results: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the degrees (feature, direction, result) of all products that conserve parity, sorted by the result.

    Args:
        features: Degrees of the features.
        largest: Largest degree of the directions.
        results: Degrees of the results that are kept.
    """
    paths = [
        (feature, direction, result)
        for feature in features
        for direction in range(largest + 1)
        for result in range(abs(feature - direction), feature + direction + 1)
        if result in results and (feature + direction + result) % 2 == 0
    ]
    return sorted(paths, key=lambda path: path[2])


class Convolution(nn.Module):
    """Convolution, which sums products of features and directions over the neighbors. Each path has its own filter.

    Paths from features of degree 0 use any neighbor sums. Other paths require pairs whose filters are plain tensors, so
    not `MoleculePairs`.

    Args:
        features: Degrees of the features.
        largest: Largest degree of the directions and of the results.
        neighbor_sums: Object that computes the sums over neighbors.
    """

    matrix: Tensor

    def __init__(self, features: tuple[int, ...], largest: int, neighbor_sums: NeighborSums) -> None:
        super().__init__()
        self.neighbor_sums = neighbor_sums
        self.results = list(range(largest + 1))
        self.paths = convolution_paths(features, largest, tuple(self.results))
        self.sizes = [2 * degree + 1 for degree in features]
        self.harmonics = [2 * degree + 1 for degree in self.results]
        parity = [(-1.0) ** degree for degree in self.results for _ in range(2 * degree + 1)]
        self.register_buffer("parity", torch.tensor(parity), persistent=False)
        blocks: list[Tensor] = []
        for own, direction, result in self.paths:
            if own == 0:  # the product with a scalar is the direction itself
                continue
            values = coupling(own, direction, result) * math.sqrt(2 * result + 1)
            block = torch.zeros(2 * result + 1, 2 * own + 1, (largest + 1) ** 2, dtype=torch.float64)
            block[:, :, direction * direction : (direction + 1) ** 2] = values.permute(2, 0, 1)
            blocks.append(block.flatten(0, 1))
        self.only_scalars = not blocks
        matrix = torch.cat(blocks).t().contiguous() if blocks else torch.zeros(0, 0, dtype=torch.float64)
        self.register_buffer("matrix", matrix, persistent=False)
        self.columns = [len(block) for block in blocks] or [0]  # TorchScript cannot type an empty list
        # For each path, the index of its degree in the features and the degree of its result.
        self.places = [features.index(own) for own, _, _ in self.paths]
        self.degrees = [result for _, _, result in self.paths]
        # Number of paths to each degree of the results.
        self.multiplicity = [self.degrees.count(degree) for degree in self.results]

    parity: Tensor

    def forward(self, features: Tensor, harmonics: Tensor, filters: list[Tensor], pairs: Edges) -> list[Tensor]:
        """Return the sums (N, 2 l + 1, paths C) of each degree.

        Args:
            features: Tensors (N, sum (2 l + 1), C).
            harmonics: Spherical harmonics of the pairs (P, (largest + 1)^2).
            filters: Filters (P, C) of each path.
            pairs: Pairs (2, P) of the neighbor sums.
        """
        atoms, channels = features.shape[0], features.shape[2]
        of_degree = harmonics.split(self.harmonics, dim=1)
        scalars = features[:, 0]
        sent: list[Tensor] = []
        factors: list[Tensor] = []
        if not self.only_scalars:
            both = torch.cat((harmonics, harmonics * self.parity.to(harmonics.dtype)))
            factors = list(both.matmul(self.matrix.to(harmonics.dtype)).split(self.columns, dim=1))
            sent = list(features.index_select(0, pairs.flip(0).reshape(-1)).split(self.sizes, dim=1))
        sums: list[Tensor] = []
        number = 0
        for path, degree in enumerate(self.degrees):
            place = self.places[path]
            if place == 0:
                parity = 1.0 - 2.0 * (degree % 2)
                sums.append(self.neighbor_sums.outer(filters[path], scalars, of_degree[degree], parity, pairs))
            else:
                size = self.sizes[place]
                weighted = sent[place].reshape(2, -1, size, channels) * filters[path].unsqueeze(1)
                factor = factors[number].reshape(-1, 2 * degree + 1, size)
                messages = torch.bmm(factor, weighted.view(-1, size, channels))
                shape = (atoms, 2 * degree + 1, channels)
                sums.append(messages.new_zeros(shape).index_add(0, pairs.reshape(-1), messages))
                number += 1
        results: list[Tensor] = []
        for result in self.results:
            own: list[Tensor] = []
            for path, degree in enumerate(self.degrees):
                if degree == result:
                    own.append(sums[path])
            results.append(torch.cat(own, dim=2))
        return results
