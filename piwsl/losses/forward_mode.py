"""Directional derivatives of energies in forward mode that are differentiable with respect to the weights.

This module replaces three tangent formulas of PyTorch:

- Matrix products: PyTorch also multiplies by the zero tangent of the weights and differentiates this product in the
  backward pass. This product takes a third of the total time.
- SiLU: PyTorch uses many small operations.
- Layer norm: PyTorch treats the standard deviation as a constant in the second derivative, so the gradient is wrong
  (PyTorch 2.12).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class _Linear(Function):
    """Linear layer of values (..., I) with weight (O, I) and bias (O,), where only the values have a tangent."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.save_for_forward(weight)
        ctx.set_materialize_grads(False)
        return functional.linear(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        (gradient,) = upstream
        if gradient is None:
            return None, None, None
        values, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        return (
            gradient.matmul(weight) if ctx.needs_input_grad[0] else None,
            rows.t().matmul(values.flatten(0, -2)) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (weight,) = ctx.saved_tensors
        return functional.linear(tangents[0], weight)


class _SiLU(Function):
    """SiLU function x sigmoid(x), with a tangent in a single operation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        ctx.save_for_forward(values)
        return functional.silu(values)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        return torch.ops.aten.silu_backward(upstream[0], *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        tangent: Tensor = _SiLUTangent.apply(tangents[0], *ctx.saved_tensors)  # type: ignore[no-untyped-call]  # PyTorch's
        return tangent


class _SiLUTangent(Function):
    """Product of a tangent and the derivative of SiLU."""

    @staticmethod
    def forward(ctx: Any, tangent: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(tangent, values)
        return torch.ops.aten.silu_backward(tangent, values)  # type: ignore[no-any-return]  # ops have no types

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        tangent, values = ctx.saved_tensors
        sigmoid = torch.sigmoid(values)
        curvature = sigmoid * (1 - sigmoid) * (2 + values * (1 - 2 * sigmoid))
        return torch.ops.aten.silu_backward(upstream[0], values), upstream[0] * tangent * curvature


def elementary_layer_norm(
    values: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return the layer norm from elementary operations. The arguments are those of `functional.layer_norm`."""
    dimensions = tuple(range(-len(normalized_shape), 0))
    centered = values - values.mean(dimensions, keepdim=True)
    normed = centered * torch.rsqrt((centered * centered).mean(dimensions, keepdim=True) + eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


class _OwnTangents(TorchFunctionMode):
    """Function mode that applies the formulas of this module to dual tensors.

    It replaces linear layers, matrix products, SiLU, and layer norms.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is functional.linear and not kwargs:
            values, weight, *bias = args
            if _only_first_has_tangent(values, weight, *bias):
                return _Linear.apply(values, weight, bias[0] if bias else None)  # type: ignore[no-untyped-call]  # PyTorch's
        elif function is Tensor.matmul and not kwargs:
            values, weight = args
            if weight.ndim == 2 and _only_first_has_tangent(values, weight):
                return _Linear.apply(values, weight.t(), None)  # type: ignore[no-untyped-call]  # PyTorch's
        elif function is functional.silu and _has_tangent(args[0]):
            return _SiLU.apply(args[0])  # type: ignore[no-untyped-call]  # PyTorch's
        elif function is functional.layer_norm and _has_tangent(args[0]):
            return elementary_layer_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _only_first_has_tangent(first: Tensor, *others: Tensor | None) -> bool:
    if torch.is_autocast_enabled(first.device.type):  # The operands would have different float types.
        return False
    return _has_tangent(first) and not any(other is not None and _has_tangent(other) for other in others)


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


def directional_derivative(
    function: Callable[[Tensor], Tensor], positions: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """Return f(positions) and sum_i steps_i . df/dx_i, both differentiable with respect to the weights.

    Args:
        function: Function f of positions (N, 3), with a result of any shape.
        positions: Positions (N, 3), angstrom.
        steps: Displacements (N, 3), angstrom.
    """
    with forward_ad.dual_level(), _OwnTangents():
        dual = function(forward_ad.make_dual(positions.detach(), steps))
        values, change = forward_ad.unpack_dual(dual)
    assert change is not None
    return values, change
