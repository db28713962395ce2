"""Products of Cartesian tensors as loops compiled by numba, without intermediate arrays.

The product of `TensorProduct` is the derivative, with respect to o, of the multilinear form

    P(o, x, y, w) = sum_n sum_f sum_t  c_t o[n,k_t,f] x[n,i_t,f] y[n,j_t,f] w[n,p_t,f]

over atoms n and channels f. The terms t are those with a nonzero coefficient c_t.

This module requires numba.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from piwsl.models.multilinear import array_of, contract, loop
from piwsl.models.networks.ace import TensorProduct
from piwsl.typing import FloatArray, IntArray

_SMALLEST = 1e-12  # coefficients below are rounding errors


# The loop has no type annotations, because numba compiles a version for each combination of argument types.


@loop
def _sum_terms(places, coefficients, first, second, third, out):  # type: ignore[no-untyped-def]
    """Add c a[n,i] b[n,j] d[n,k] to out[n,o] for each term with the rows (o, i, j, k)."""
    for n in range(out.shape[0]):
        for t in range(coefficients.shape[0]):
            c = coefficients[t]
            # Rows as variables, such as out[n, places[t, 0]], would take five times as long.
            o, i, j, k = places[t, 0], places[t, 1], places[t, 2], places[t, 3]
            for f in range(out.shape[2]):
                out[n, o, f] += c * first[n, i, f] * second[n, j, f] * third[n, k, f]


class ProductForm:
    """Form P(o, x, y, w) with o, x and y (N, 9, F) and w (N, 11, F).

    Args:
        places: Row of each term in the four arguments (T, 4).
        coefficients: Coefficient of each term (T,), float64.
        sizes: Number of rows of the arguments.
    """

    def __init__(self, places: IntArray, coefficients: FloatArray, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self._terms = []
        for slot in range(4):
            # Terms of the same row of the result follow each other.
            order = np.argsort(places[:, slot], kind="stable")
            columns = [slot, *(number for number in range(4) if number != slot)]
            self._terms.append((np.ascontiguousarray(places[order][:, columns]), coefficients[order]))

    def derivative(self, slot: int, arguments: list[Any]) -> Tensor:
        """Return the derivative with respect to argument number ``slot``."""
        others: list[Tensor] = [argument for number, argument in enumerate(arguments) if number != slot]
        places, coefficients = self._terms[slot]
        out = others[0].new_zeros((others[0].shape[0], self.sizes[slot], others[0].shape[2]))
        result = out.numpy()
        _sum_terms(places, coefficients.astype(result.dtype), *map(array_of, others), result)
        return out


@lru_cache(maxsize=1)
def product_form() -> ProductForm:
    """Return the form of `TensorProduct`, whose coefficients are its values for unit vectors."""
    product = TensorProduct()
    count, paths = 9, product.PATHS
    left, right, path = (
        grid.reshape(-1) for grid in torch.meshgrid(*map(torch.arange, (count, count, paths)), indexing="ij")
    )
    rows = torch.arange(len(left))

    def units(chosen: Tensor, size: int) -> Tensor:
        values = torch.zeros(len(left), size, 1, dtype=torch.float64)
        values[rows, chosen] = 1.0
        return values

    values = product(units(left, count), units(right, count), units(path, paths)).squeeze(2)
    terms = torch.nonzero(values.abs() > _SMALLEST)
    row, result = terms.unbind(1)
    places = torch.stack((result, left[row], right[row], path[row]), dim=1)
    return ProductForm(places.numpy(), values[row, result].numpy(), (count, count, count, paths))


class FusedTensorProduct(TensorProduct):
    """Variant of `TensorProduct` with a compiled loop, for eager mode on CPUs."""

    def forward(self, left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        """Map tensors (N, 9, F) and weights (N, 11, F) to the weighted sum of all paths (N, 9, F)."""
        return contract(product_form(), 0, [None, left, right, weights])


def use_compiled_products(network: nn.Module) -> None:
    """Replace the tensor products in all modules of a network. The weights are unchanged."""
    for module in network.modules():
        for name, part in module.named_children():
            if type(part) is TensorProduct:
                setattr(module, name, FusedTensorProduct())
