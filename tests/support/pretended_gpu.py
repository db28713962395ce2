"""A pretended GPU: tensors with real values that claim to be on another device and refuse to be mixed with the CPU's.

PyTorch has no GPU on most machines that run the tests. `Elsewhere` is a tensor whose device is ``meta`` and whose
values are a tensor on the CPU. Every operation computes the values on the CPU and follows the rules of a GPU:

- operands on different devices raise an error, except scalars (tensors without dimensions) of the CPU;
- an index must be on the CPU or on the device of the indexed tensor;
- arrays of NumPy cannot be made without a copy to the CPU.

Unlike fake tensors of PyTorch, the values exist, so the sizes of results may depend on them, and results can be
compared with those of the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

# Not `meta` without a number: PyTorch itself uses that device in some derivatives.
DEVICE = torch.device("meta", 0)
_CPU = torch.device("cpu")
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
    torch.ops.aten._unsafe_index.Tensor,
)


class MixedDevicesError(RuntimeError):
    """An operation had operands on the CPU and on the pretended device."""


class Elsewhere(Tensor):
    """Tensor on the pretended device, with its values in ``values`` on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.values = values
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Elsewhere({self.values})"

    def tolist(self) -> Any:
        """Return the values; PyTorch has no such function for subclasses."""
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Mode in which tensors that are created on the pretended device have values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    """Mode for functions that convert lists: PyTorch skips the other mode for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and asked is not None and torch.device(asked) == DEVICE:
            if isinstance(args[0], Elsewhere):
                return func(*args, **kwargs)
            return Elsewhere(func(*args, **{**kwargs, "device": _CPU}))
        if func is Tensor.new_tensor and isinstance(args[0], Elsewhere) and asked is None:
            return Elsewhere(args[0].values.new_tensor(*args[1:], **kwargs))
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]), *args[2:])  # the device of an index may be the CPU
        return func(*args, **kwargs)


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    some = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    asked = kwargs.get("device")
    there = some if asked is None else torch.device(asked) == DEVICE
    if not (some or there):
        return func(*args, **kwargs)
    if some and any(tensor.is_meta and not isinstance(tensor, Elsewhere) for tensor in tensors):
        raise MixedDevicesError(f"{func}: an operand has no values, because the pretended device did not create it")
    if some and func not in _COPIES:
        _check(func, args, tensors)
    inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.values, (args, kwargs))
    if asked is not None and there:
        inner_kwargs = {**inner_kwargs, "device": _CPU}
    if func is torch.ops.aten._to_copy.default and asked is not None:
        # A copy to the same type on the CPU would be the tensor itself.
        result = func(*inner_args, **inner_kwargs)
        return Elsewhere(result) if there else result
    if func is torch.ops.aten._efficientzerotensor.default:  # its storage is missing, which the next operation reads
        func = torch.ops.aten.zeros.default
    result = func(*inner_args, **inner_kwargs)
    if func is torch.ops.aten.copy_.default:
        return args[0]
    result = tree_map_only(Tensor, Elsewhere, result) if there else result
    return return_and_correct_aliasing(func, args, kwargs, result) if some and there else result


def _check(func: Any, args: Any, tensors: list[Tensor]) -> None:
    if func in _INDEXED and isinstance(args[0], Elsewhere):
        tensors = [leaf for leaf in tree_leaves((args[0], args[2:])) if isinstance(leaf, Tensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim() > 0]
    if on_cpu:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in on_cpu)
        raise MixedDevicesError(f"{func}: operands of the shapes {shapes} are on the CPU, others on the GPU")


def to_device(value: Tensor) -> Tensor:
    """Return a copy of a tensor on the pretended device."""
    return Elsewhere(value.detach().clone()).requires_grad_(value.requires_grad)


def module_to_device(module: nn.Module) -> nn.Module:
    """Move the parameters and buffers of a module to the pretended device and return the module."""
    for owner in module.modules():
        for name, weight in owner._parameters.items():
            if weight is not None:
                moved = to_device(weight)
                owner._parameters[name] = nn.Parameter(moved, requires_grad=weight.requires_grad)
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = to_device(buffer)
    return module


@contextmanager
def pretended_gpu() -> Iterator[Callable[[Tensor], Tensor]]:
    """Make ``torch.device("meta")`` a pretended GPU; yield `to_device`."""
    real = torch.is_autocast_enabled

    def is_autocast_enabled(kind: str = "cuda") -> bool:
        return False if kind == DEVICE.type else real(kind)

    with _Constants(), _Mode(), patch.object(torch, "is_autocast_enabled", is_autocast_enabled):
        yield to_device


def values_of(value: Tensor) -> Tensor:
    """Return the values of a tensor of any device on the CPU."""
    return value.values if isinstance(value, Elsewhere) else value
