"""Sums over neighbours as loops compiled by numba: no array of the size edges x components x channels is ever made.

Two multilinear forms over the edges (i, j) of a graph, with channels f and components c,

    T(g, W, x)    = sum_e sum_cf  g[i,c,f] W[e,f] x[j,c,f]
    Q(g, u, W, x) = sum_e sum_cf  g[i,c,f] u[e,c] W[e,f] x[j,f]

stand for all of them: a sum over neighbours is the derivative of a form by g, and as the forms are multilinear the
derivatives of derivatives are again derivatives of the same form. `contract` is one of these derivatives and can be
differentiated any number of times, in reverse and in forward mode.

This module needs numba. Loops over blocks of channels run in parallel and never share a result.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd import Function

from piwsl.typing import Edges

# Sums may be regrouped into vector instructions; no assumption is made about NaN and infinities.
_FASTMATH = {"contract", "reassoc", "nsz"}
_compiled = njit(parallel=True, cache=True, nogil=True, fastmath=_FASTMATH)


@_compiled
def _sum_products(centres, neighbours, filters, values, out, blocks):  # type: ignore[no-untyped-def]
    """out[i,c] += W[e] x[j,c]."""
    width = filters.shape[1]
    for block in prange(blocks):
        low, high = block * width // blocks, (block + 1) * width // blocks
        for e in range(filters.shape[0]):
            w = filters[e][low:high]
            for c in range(values.shape[1]):
                o, x = out[centres[e], c][low:high], values[neighbours[e], c][low:high]
                for f in range(high - low):
                    o[f] += w[f] * x[f]


@_compiled
def _edge_products(centres, neighbours, left, right, out, blocks):  # type: ignore[no-untyped-def]
    """out[e] = sum_c g[i,c] x[j,c]."""
    width = out.shape[1]
    for block in prange(blocks):
        low, high = block * width // blocks, (block + 1) * width // blocks
        for e in range(out.shape[0]):
            o = out[e][low:high]
            for c in range(left.shape[1]):
                g, x = left[centres[e], c][low:high], right[neighbours[e], c][low:high]
                for f in range(high - low):
                    o[f] += g[f] * x[f]


@_compiled
def _sum_outer(centres, neighbours, directions, filters, values, out, blocks):  # type: ignore[no-untyped-def]
    """out[i,c] += u[e,c] W[e] x[j]."""
    width = filters.shape[1]
    for block in prange(blocks):
        low, high = block * width // blocks, (block + 1) * width // blocks
        for e in range(filters.shape[0]):
            w, x = filters[e][low:high], values[neighbours[e]][low:high]
            for c in range(directions.shape[1]):
                u, o = directions[e, c], out[centres[e], c][low:high]
                for f in range(high - low):
                    o[f] += u * w[f] * x[f]


@_compiled
def _sum_inner(centres, neighbours, left, directions, filters, out, blocks):  # type: ignore[no-untyped-def]
    """out[j] += W[e] sum_c u[e,c] g[i,c]."""
    width = filters.shape[1]
    for block in prange(blocks):
        low, high = block * width // blocks, (block + 1) * width // blocks
        for e in range(filters.shape[0]):
            w, o = filters[e][low:high], out[neighbours[e]][low:high]
            for c in range(directions.shape[1]):
                u, g = directions[e, c], left[centres[e], c][low:high]
                for f in range(high - low):
                    o[f] += u * w[f] * g[f]


@_compiled
def _edge_inner(centres, neighbours, left, directions, values, out, blocks):  # type: ignore[no-untyped-def]
    """out[e] = x[j] sum_c u[e,c] g[i,c]."""
    width = out.shape[1]
    for block in prange(blocks):
        low, high = block * width // blocks, (block + 1) * width // blocks
        for e in range(out.shape[0]):
            x, o = values[neighbours[e]][low:high], out[e][low:high]
            for c in range(directions.shape[1]):
                u, g = directions[e, c], left[centres[e], c][low:high]
                for f in range(high - low):
                    o[f] += u * g[f] * x[f]


@_compiled
def _edge_sums(centres, neighbours, left, filters, values, out, blocks):  # type: ignore[no-untyped-def]
    """out[e,c] = sum_f W[e,f] x[j,f] g[i,c,f]; blocks are blocks of edges here."""
    count = filters.shape[0]
    for block in prange(blocks):
        for e in range(block * count // blocks, (block + 1) * count // blocks):
            w, x = filters[e], values[neighbours[e]]
            for c in range(left.shape[1]):
                g = left[centres[e], c]
                total = out[e, c]
                for f in range(len(w)):
                    total += w[f] * x[f] * g[f]
                out[e, c] = total


Form = Callable[[int, Edges, list[Any]], Tensor]


def trilinear(slot: int, edges: Edges, arguments: list[Any]) -> Tensor:
    """Derivative of T(g, W, x) by its argument number ``slot``, which is None among the arguments."""
    left: Tensor
    filters: Tensor
    values: Tensor
    left, filters, values = arguments
    centres, neighbours = _array(edges[0]), _array(edges[1])
    if slot == 1:
        out = left.new_zeros((edges.shape[1], left.shape[2]))
        _edge_products(centres, neighbours, _array(left), _array(values), out.numpy(), _blocks(out.shape[1]))
    elif slot == 0:
        out = torch.zeros_like(values, memory_format=torch.contiguous_format)
        _sum_products(centres, neighbours, _array(filters), _array(values), out.numpy(), _blocks(out.shape[2]))
    else:
        out = torch.zeros_like(left, memory_format=torch.contiguous_format)
        _sum_products(neighbours, centres, _array(filters), _array(left), out.numpy(), _blocks(out.shape[2]))
    return out


def quadrilinear(slot: int, edges: Edges, arguments: list[Any]) -> Tensor:
    """Derivative of Q(g, u, W, x) by its argument number ``slot``, which is None among the arguments."""
    arrays: list[Any] = [None if one is None else _array(one) for one in arguments]
    left, directions, filters, values = arrays
    given: Tensor = arguments[3 if slot != 3 else 2]
    centres, neighbours = _array(edges[0]), _array(edges[1])
    blocks = _blocks(given.shape[-1])
    if slot == 0:
        out = given.new_zeros((given.shape[0], directions.shape[1], given.shape[1]))
        _sum_outer(centres, neighbours, directions, filters, values, out.numpy(), blocks)
    elif slot == 1:
        out = given.new_zeros((edges.shape[1], left.shape[1]))
        _edge_sums(centres, neighbours, left, filters, values, out.numpy(), torch.get_num_threads())
    elif slot == 2:
        out = given.new_zeros((edges.shape[1], given.shape[1]))
        _edge_inner(centres, neighbours, left, directions, values, out.numpy(), blocks)
    else:
        out = given.new_zeros((left.shape[0], left.shape[2]))
        _sum_inner(centres, neighbours, left, directions, filters, out.numpy(), blocks)
    return out


class _Contract(Function):
    """One derivative of a multilinear form, differentiable again."""

    @staticmethod
    def forward(ctx: Any, form: Form, slot: int, edges: Edges, *arguments: Any) -> Tensor:
        ctx.form, ctx.slot, ctx.edges = form, slot, edges
        given = [one for index, one in enumerate(arguments) if index != slot]
        ctx.save_for_backward(*given)
        ctx.save_for_forward(*given)
        return form(slot, edges, list(arguments))

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        arguments = list(ctx.saved_tensors)
        arguments.insert(ctx.slot, upstream[0])
        gradients = [
            contract(ctx.form, index, ctx.edges, arguments)
            if index != ctx.slot and ctx.needs_input_grad[3 + index]
            else None
            for index in range(len(arguments))
        ]
        return (None, None, None, *gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        arguments = list(ctx.saved_tensors)
        arguments.insert(ctx.slot, None)
        parts = []
        for index, tangent in enumerate(tangents[3:]):
            if tangent is not None:
                changed = [tangent if other == index else one for other, one in enumerate(arguments)]
                parts.append(contract(ctx.form, ctx.slot, ctx.edges, changed))
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def contract(form: Form, slot: int, edges: Edges, arguments: list[Any]) -> Tensor:
    """Derivative of a form by its argument ``slot`` (whose place in ``arguments`` is ignored)."""
    given = [None if index == slot else one for index, one in enumerate(arguments)]
    result: Tensor = _Contract.apply(form, slot, edges, *given)  # type: ignore[no-untyped-call]
    return result


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().contiguous().numpy()
    return array


def _blocks(width: int) -> int:
    """Blocks of channels: one a thread, none narrower than a few vector instructions."""
    return max(1, min(torch.get_num_threads(), width // 16))
