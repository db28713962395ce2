"""Charge and spin of structures as input of a network."""

import math

import torch
from torch import Tensor, nn

from piwsl.typing import MAX_ATOMIC_NUMBER, Species, StructureIndex


class ElectronicEmbedding(nn.Module):
    """Features from a number of the structure, its charge or its unpaired electrons (SpookyNet, eqs. 10 and 11).

    The number is distributed over the atoms by attention to their elements. Positive and negative numbers have separate
    keys and values. The features of the number 0 are zero.

    Args:
        channels: Number of features F.
        smallest: Number that is added to the sum of the weights of a structure. The shares of a structure add up to 1
            only without it.
    """

    def __init__(self, channels: int, smallest: float = 0.0) -> None:
        super().__init__()
        self.channels = channels
        self.smallest = smallest
        self.query = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.key = nn.Parameter(torch.randn(2, channels) / math.sqrt(channels))
        self.value = nn.Parameter(torch.randn(2, channels) / math.sqrt(channels))
        self.residual = nn.Sequential(
            nn.SiLU(), nn.Linear(channels, channels, bias=False), nn.SiLU(), nn.Linear(channels, channels, bias=False)
        )

    def forward(self, species: Species, numbers: Tensor, structure_index: StructureIndex) -> Tensor:
        """Map species (N,) and numbers (N,), repeated for each atom of a structure, to features (N, F)."""
        sign = (numbers < 0).to(torch.int64)
        key, value = self.key.index_select(0, sign), self.value.index_select(0, sign)
        weights = nn.functional.softplus((self.query(species) * key).sum(1) / math.sqrt(self.channels))
        share = weights / (of_structures(weights, structure_index) + self.smallest)
        features = (numbers * share).unsqueeze(1) * value
        embedded: Tensor = features + self.residual(features)
        return embedded


def of_structures(values: Tensor, structure_index: StructureIndex) -> Tensor:
    """Return the sum of the values (N,) in each structure, repeated for each atom (N,)."""
    # There are at most as many structures as atoms.
    sums = torch.zeros_like(values).index_add(0, structure_index, values)
    return sums.index_select(0, structure_index)
