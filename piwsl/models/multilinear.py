"""Multilinear forms whose derivatives are loops compiled by numba.

All derivatives of a multilinear form, of any order, are derivatives of the same form. `contract` computes one
derivative and is differentiable any number of times, in reverse and in forward mode.

This module requires numba. The loops run in a single thread. A second thread pool competes with the busy-waiting
threads of PyTorch, and training on two cores became slower.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numba import njit
from torch import Tensor
from torch.autograd import Function

# Allow reordering of sums for vector instructions, but preserve NaN and infinities.
_FASTMATH = {"contract", "reassoc", "nsz"}


def loop(function: Callable[..., None]) -> Any:
    """Return a function that numba compiles at the first call and caches on disk if possible."""
    try:
        return njit(cache=True, nogil=True, fastmath=_FASTMATH)(function)
    except RuntimeError:  # Neither the directory of this file nor the cache directory of the user is writable.
        return njit(nogil=True, fastmath=_FASTMATH)(function)


class Form(Protocol):
    """Protocol of multilinear forms, defined by their derivatives."""

    def derivative(self, slot: int, arguments: list[Any]) -> Tensor:
        """Return the derivative with respect to argument number ``slot``, in the shape of this argument.

        The entry ``slot`` of ``arguments`` is None.
        """


class _Contract(Function):
    """Differentiable derivative of a multilinear form with respect to one argument."""

    @staticmethod
    def forward(ctx: Any, form: Form, slot: int, *arguments: Any) -> Tensor:
        ctx.form, ctx.slot = form, slot
        ctx.set_materialize_grads(False)  # Arguments without a tangent stay None, which avoids their computation.
        given = [argument for index, argument in enumerate(arguments) if index != slot]
        ctx.save_for_backward(*given)
        ctx.save_for_forward(*given)
        return form.derivative(slot, list(arguments))

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        if upstream[0] is None:
            return (None,) * len(ctx.needs_input_grad)
        arguments = list(ctx.saved_tensors)
        arguments.insert(ctx.slot, upstream[0])
        gradients = [
            contract(ctx.form, index, arguments) if index != ctx.slot and ctx.needs_input_grad[2 + index] else None
            for index in range(len(arguments))
        ]
        return (None, None, *gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        arguments = list(ctx.saved_tensors)
        arguments.insert(ctx.slot, None)
        parts = []
        for index, tangent in enumerate(tangents[2:]):
            if tangent is not None:
                changed = [*arguments[:index], tangent, *arguments[index + 1 :]]
                parts.append(contract(ctx.form, ctx.slot, changed))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def contract(form: Form, slot: int, arguments: list[Any]) -> Tensor:
    """Return the derivative of a form with respect to argument ``slot``. This entry of ``arguments`` is ignored."""
    given = [None if index == slot else argument for index, argument in enumerate(arguments)]
    result: Tensor = _Contract.apply(form, slot, *given)  # type: ignore[no-untyped-call]  # PyTorch's
    return result


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the values of a tensor as a contiguous array, without a copy if possible."""
    array: np.ndarray[Any, Any] = tensor.detach().contiguous().numpy()
    return array
