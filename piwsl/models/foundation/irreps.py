"""Records of e3nn: irreducible representations, and linear maps and products between them."""

import re
from itertools import product
from typing import Any

import torch
from torch import Tensor

from piwsl.errors import ModelFileError
from piwsl.models.foundation.pickled import Name, Record, shown
from piwsl.models.networks.symmetric_products import product_basis

KNOWN = {
    "e3nn.math._normalize_activation.normalize2mom",
    "e3nn.nn._activation.Activation",
    "e3nn.nn._fc.FullyConnectedNet",
    "e3nn.nn._fc._Layer",
    "e3nn.o3._irreps.Irrep",
    "e3nn.o3._irreps.Irreps",
    "e3nn.o3._irreps._MulIr",
    "e3nn.o3._linear.Instruction",
    "e3nn.o3._linear.Linear",
    "e3nn.o3._spherical_harmonics.SphericalHarmonics",
    "e3nn.o3._tensor_product._instruction.Instruction",
    "e3nn.o3._tensor_product._sub.FullyConnectedTensorProduct",
    "e3nn.o3._tensor_product._tensor_product.TensorProduct",
}


def irreps(value: Any) -> list[tuple[int, int]]:
    """Return the multiplicity and degree of each entry in a record of irreps or in a text such as ``8x0e+8x1o``.

    Raises:
        ValueError: An entry has a parity other than (-1)^l, or the text does not describe irreps.
    """
    entries = []
    for multiplicity, degree, parity in _parsed(value) if isinstance(value, str) else _recorded(value):
        if parity != (-1) ** degree:
            raise ValueError(f"tensors of degree {shown(degree)} and parity {shown(parity)}")
        entries.append((int(multiplicity), int(degree)))
    return entries


def _recorded(value: Record) -> list[tuple[int, int, int]]:
    return [(entry.arguments[0][0], *entry.arguments[0][1].arguments[0]) for entry in value.arguments[0]]


def _parsed(text: str) -> list[tuple[int, int, int]]:
    found = [re.fullmatch(r"\s*(?:(\d{1,6})x)?(\d{1,2})([eo])\s*", part) for part in text[:1000].split("+")]
    if None in found:
        raise ValueError(f"features with {text[:100]}")
    return [(int(one[1] or 1), int(one[2]), 1 if one[3] == "e" else -1) for one in found if one]


def linear_maps(linear: Record) -> dict[tuple[int, int], Tensor]:
    """Return the matrices (outputs, inputs) of a linear map, including all factors, by pairs of entries.

    Raises:
        ValueError: The record is not a linear map or is damaged, or the map has biases.
    """
    if linear.name != "e3nn.o3._linear.Linear":
        raise ValueError(f"a linear map of type {linear.name}")
    if linear.attribute("bias_numel"):
        raise ValueError("a linear map with biases")
    weight, start = linear.attribute("weight"), 0
    maps: dict[tuple[int, int], Tensor] = {}
    for instruction in linear.attribute("instructions"):
        source, target, (inputs, outputs), factor = instruction.arguments
        block = weight[start : start + inputs * outputs].reshape(inputs, outputs)
        start += inputs * outputs
        maps[source, target] = factor * block.to(torch.float64).t()
    if start != len(weight):
        raise ValueError("weights of a linear map do not fit its description")
    return maps


def element_maps(product: Record) -> dict[tuple[int, int], Tensor]:
    """Return the matrices (elements, inputs, outputs) of a product with the one-hot element, including all factors.

    Raises:
        ValueError: The record is not such a product or is damaged.
    """
    if product.name != "e3nn.o3._tensor_product._sub.FullyConnectedTensorProduct":
        raise ValueError(f"a product of type {product.name}")
    degrees = irreps(product.attribute("irreps_out"))
    weight, start = product.attribute("weight"), 0
    maps: dict[tuple[int, int], Tensor] = {}
    for instruction in product.attribute("instructions"):
        source, _, target, mode, has_weight, factor, (inputs, elements, outputs) = instruction.arguments
        if mode != "uvw" or not has_weight:
            raise ValueError(f"a product with the connection {shown(mode)}")
        size = inputs * elements * outputs
        block = weight[start : start + size].reshape(inputs, elements, outputs).transpose(0, 1)
        start += size
        # The coefficients that couple with a scalar have norm one.
        maps[source, target] = factor * (2 * degrees[target][1] + 1) ** -0.5 * block.to(torch.float64)
    if start != len(weight):
        raise ValueError("weights of a product do not fit its description")
    return maps


def network_weights(network: Record) -> list[Tensor]:
    """Return the matrices (outputs, inputs) of a fully connected network, including all factors, for plain SiLU.

    Raises:
        ValueError: The network has an activation other than SiLU, activated results, or other variances than one.
    """
    count = len(network.attribute("hs")) - 1
    weights, factor = [], 1.0
    for number in range(count):
        layer = network.attribute(f"layer{number}")
        weight = layer.attribute("weight").to(torch.float64)
        variance = (layer.attribute("var_in"), layer.attribute("var_out"))
        if variance != (1, 1):
            raise ValueError("a network with variances other than one")
        weights.append(factor * len(weight) ** -0.5 * weight.t())
        act = layer.attribute("act")
        factor = silu_factor(act) if number < count - 1 else 1.0
        if number == count - 1 and act is not None:
            raise ValueError("a network with an activation of its results")
    return weights


def silu_factor(activation: Any) -> float:
    """Return the factor of a normalized SiLU.

    Raises:
        ValueError: The activation is not SiLU.
    """
    function = activation.attribute("f") if isinstance(activation, Record) else None
    if not isinstance(function, Name) or function.name != "torch.nn.functional.silu":
        raise ValueError(f"the activation {shown(function)}")
    return float(activation.attribute("cst"))


def product_weights(matrix: Tensor, weights: Tensor, largest: int, factors: int, degree: int) -> Tensor:
    """Convert the weights of products with other coefficients to weights (elements, K, C) for the basis of piwsl.

    Args:
        matrix: Coefficients ([2 L + 1,] D, ..., D, k) of k products of equal factors.
        weights: Weights (elements, k, C) of these products.
        largest: Largest degree of the factors.
        factors: Number of factors.
        degree: Degree L of the products.

    Raises:
        ValueError: The products are not equivariant, or their factors have other degrees.
    """
    size, count = (largest + 1) ** 2, matrix.shape[-1]
    if matrix.shape[-2] != size or matrix.numel() != (2 * degree + 1) * size**factors * count:
        raise ValueError("products of tensors of other degrees")
    matrix = matrix.reshape(2 * degree + 1, -1, count)
    basis = product_basis(largest, factors, degree)
    # Coefficients of equal monomials are added, because the factors are equal.
    number = {tuple(row): place for place, row in enumerate(basis.monomials.tolist())}
    index = torch.tensor([number.get(tuple(sorted(row)), len(number)) for row in product(range(size), repeat=factors)])
    symmetric = torch.zeros(2 * degree + 1, len(number) + 1, count, dtype=torch.float64).index_add(1, index, matrix)
    change = torch.einsum("mpK,mpk->Kk", basis.coefficients, symmetric[:, :-1])
    rest = symmetric.clone()
    rest[:, :-1] -= torch.einsum("mpK,Kk->mpk", basis.coefficients, change)
    if float(torch.linalg.vector_norm(rest)) > 1e-4 * max(1.0, float(torch.linalg.vector_norm(symmetric))):
        raise ValueError("products that are not equivariant")
    return torch.einsum("Kk,zkc->zKc", change, weights)


def refused(path: Any, what: object) -> ModelFileError:
    """Return the error for a part of a file that piwsl does not represent."""
    return ModelFileError(f"{path}: contains {what}, which piwsl does not represent")
