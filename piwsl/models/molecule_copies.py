"""Sums over neighbours of several copies of one molecule, for programs whose operations run one by one.

Arrays of all pairs times directions of many copies leave the caches of a processor. Here sums are taken direction by
direction, or as products of small matrices, and what reaches an atom from behind is multiplied where it comes from:
a shifted view of the product needs no copy. Compilers fuse the loops of `MoleculePairs`, and are faster with those.
"""

import torch
from torch import Tensor

from piwsl.models.molecule_pairs import MoleculePairs, add_dot


class MoleculeCopies(MoleculePairs):
    """The sums of `MoleculePairs` in another order of work; arguments as there."""

    def sum_vectors(self, filters: Tensor, padded: Tensor) -> Tensor:
        """What `vectors` gives, from padded filters and padded atoms (..., D, F)."""
        of_pairs, ahead, before = self.of_pairs(filters), self.ahead(padded), self._before(padded)
        sums = [
            (of_pairs * ahead.select(-2, one)).sum(0) + self.of_pairs_behind(filters * before.select(-2, one)).sum(0)
            for one in range(padded.shape[1])
        ]
        return torch.stack(sums, dim=1)

    def sum_outer(self, filters: Tensor, padded: Tensor, turned: Tensor, parity: float) -> Tensor:
        """What `outer` gives, from padded filters, padded atoms (..., F) and padded directions (K, ..., D, 1)."""
        # For each atom a product of matrices, directions (D, K) times neighbours (K, F).
        ahead = self.of_pairs(filters) * self.ahead(padded)
        behind = self.of_pairs_behind(filters * self._before(padded))
        along, against = (_directions(one) for one in (self.of_pairs(turned), self.of_pairs_behind(turned)))
        sums = torch.bmm(along, ahead.transpose(0, 1))
        return torch.baddbmm(sums, against, behind.transpose(0, 1), alpha=parity)

    def outer_gradients(
        self, gradient: Tensor, filters: Tensor, values: Tensor, turned: Tensor, parity: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of `outer` by filters (K, N, F), values (N, F) and directions (P, D), all given padded."""
        of_pairs, own, other = self.of_pairs(filters), self.own(values), self.ahead(values)
        own_gradient, other_gradient = self.own(gradient), self.ahead(gradient)
        along = add_dot(None, turned, self._before(gradient))
        here = self.of_pairs(along)
        there = parity * add_dot(None, self.of_pairs(turned), other_gradient)
        of_filters = self.weighted(torch.addcmul(other * here, own, there))
        of_values = of_pairs * there
        of_values = torch.addcmul(of_values, self.of_pairs_behind(filters), self.of_pairs_behind(along)).sum(0)
        forth, back = of_pairs * other, parity * of_pairs * own
        of_directions = [
            torch.addcmul(forth * own_gradient.select(-2, one), back, other_gradient.select(-2, one)).sum(-1)
            for one in range(turned.shape[2])
        ]
        return of_filters, of_values, torch.stack(of_directions, dim=-1).flatten(0, 1)

    def _before(self, padded: Tensor) -> Tensor:
        """The atoms that padded pairs start from, (K R + N, ...)."""
        return padded[: self.margin + self.rows]


def _directions(turned: Tensor) -> Tensor:
    """Directions (K, N, D, 1) of pairs as matrices (N, D, K)."""
    return turned.squeeze(-1).permute(1, 2, 0).contiguous()
