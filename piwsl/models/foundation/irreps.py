"""Records of e3nn: irreducible representations, and linear maps and products between them."""

import re
from typing import Any

import torch
from torch import Tensor

from piwsl.errors import ModelFileError
from piwsl.models.foundation.pickled import Name, Record

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
            raise ValueError(f"tensors of degree {degree} and parity {parity}")
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
            raise ValueError(f"a product with the connection {mode}")
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
            raise ValueError(f"a network with the variances {variance}")
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
        raise ValueError(f"the activation {function.name if isinstance(function, Name) else activation}")
    return float(activation.attribute("cst"))


def refused(path: Any, what: object) -> ModelFileError:
    """Return the error for a part of a file that piwsl does not represent."""
    return ModelFileError(f"{path}: contains {what}, which piwsl does not represent")
