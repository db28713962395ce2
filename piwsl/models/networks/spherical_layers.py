"""Layers for spherical tensors (N, sum (2 l + 1), C): linear maps for each degree, and convolutions with directions."""

import math

import torch
from torch import Tensor, nn

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

    Args:
        features: Degrees of the features.
        largest: Largest degree of the directions and of the results.
    """

    matrix: Tensor

    def __init__(self, features: tuple[int, ...], largest: int) -> None:
        super().__init__()
        self.results = list(range(largest + 1))
        self.paths = convolution_paths(features, largest, tuple(self.results))
        self.sizes = [2 * degree + 1 for degree in features]
        blocks: list[Tensor] = []
        for own, direction, result in self.paths:
            values = coupling(own, direction, result) * math.sqrt(2 * result + 1)
            block = torch.zeros(2 * result + 1, 2 * own + 1, (largest + 1) ** 2, dtype=torch.float64)
            block[:, :, direction * direction : (direction + 1) ** 2] = values.permute(2, 0, 1)
            blocks.append(block.flatten(0, 1))
        self.register_buffer("matrix", torch.cat(blocks).t().contiguous(), persistent=False)
        self.columns = [len(block) for block in blocks]
        # For each path, the index of its degree in the features and the degree of its result.
        self.places = [features.index(own) for own, _, _ in self.paths]
        self.degrees = [result for _, _, result in self.paths]
        # Number of paths to each degree of the results.
        self.multiplicity = [self.degrees.count(degree) for degree in self.results]

    def forward(self, features: Tensor, harmonics: Tensor, filters: Tensor, edges: Edges) -> list[Tensor]:
        """Return the sums (N, 2 l + 1, paths C) of each degree.

        Args:
            features: Tensors (N, sum (2 l + 1), C).
            harmonics: Spherical harmonics of the edges (E, (largest + 1)^2).
            filters: Filters (P, paths, C) of the pairs.
            edges: Edges (2, E), E = 2 P; the second half repeats the first in the other direction.
        """
        atoms, channels = features.shape[0], features.shape[2]
        sent = features.index_select(0, edges[1]).split(self.sizes, dim=1)
        factors = harmonics.matmul(self.matrix.to(harmonics.dtype)).split(self.columns, dim=1)
        filters_of_paths = filters.unsqueeze(2).unbind(1)
        sums: list[Tensor] = []
        for path, degree in enumerate(self.degrees):
            place = self.places[path]
            size = self.sizes[place]
            # Both directions of a pair have the same filter.
            weighted = sent[place].reshape(2, -1, size, channels) * filters_of_paths[path]
            factor = factors[path].reshape(-1, 2 * degree + 1, size)
            messages = torch.bmm(factor, weighted.view(-1, size, channels))
            sums.append(messages.new_zeros((atoms, 2 * degree + 1, channels)).index_add(0, edges[0], messages))
        results: list[Tensor] = []
        for result in self.results:
            own: list[Tensor] = []
            for path, degree in enumerate(self.degrees):
                if degree == result:
                    own.append(sums[path])
            results.append(torch.cat(own, dim=2))
        return results
