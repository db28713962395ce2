"""Calling a compiled package by its C interface.

PyTorch's own binding holds Python's lock during a call (seen with PyTorch 2.12), so that threads wait for each other.
The C interface of packages and tensors is there for programs without Python, and keeps its layout between versions.
"""

import ctypes
import sys
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from torch import Tensor

from piwsl.errors import EngineError

_Handle: TypeAlias = ctypes.c_void_p
_Count: TypeAlias = ctypes.c_int64


class PackageCalls:
    """The code of a package for a processor, loaded once more beside whatever else has loaded it.

    Args:
        content: the package.

    Raises:
        EngineError: it, or this PyTorch, has no such interface.
    """

    def __init__(self, content: bytes) -> None:
        # Short calls keep Python's lock: giving it up at each of them costs more than they take.
        try:
            self.torch: Any = ctypes.PyDLL(str(Path(torch.__file__).parent / "lib" / _library("torch_cpu")))
            self.program: Any = _load(content)
            self.double, self.single = self.torch.aoti_torch_dtype_float64(), self.torch.aoti_torch_dtype_float32()
            self.cpu = self.torch.aoti_torch_device_type_cpu()
            self.run = self.program.AOTInductorModelContainerRunSingleThreaded
        except (OSError, AttributeError, StopIteration) as error:
            raise EngineError(f"the compiled package cannot be called without Python's lock ({error})") from None

    def new(self) -> "PackageCall":
        """Something that one thread can call."""
        return PackageCall(self)


class PackageCall:
    """Float64 tensors to the results of the package, in the memory of one thread."""

    def __init__(self, calls: PackageCalls) -> None:
        self._calls = calls
        self._container = _Handle()
        create = calls.program.AOTInductorModelContainerCreateWithDevice
        if create(ctypes.byref(self._container), ctypes.c_size_t(1), b"cpu", None):
            raise EngineError("the compiled package cannot be started: export it again")
        count = ctypes.c_size_t()
        calls.program.AOTInductorModelContainerGetNumOutputs(self._container, ctypes.byref(count))
        self._outputs = count.value

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Contiguous float64 tensors on the processor to copies of what the package gives."""
        handles = (_Handle * len(inputs))(*(self._lend(one).value for one in inputs))
        results = (_Handle * self._outputs)()
        sizes = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(self._outputs)
        if self._calls.run(self._container, handles, sizes[0], results, sizes[1], None, None):
            raise RuntimeError("the compiled package failed")
        return [self._take(_Handle(one)) for one in results]

    def __del__(self) -> None:
        if self._container:
            self._calls.program.AOTInductorModelContainerDelete(self._container)

    def _lend(self, tensor: Tensor) -> _Handle:
        """A tensor object around the memory of a tensor; the package deletes it."""
        handle, rank = _Handle(), tensor.dim()
        shape, strides = (_Count * rank)(*tensor.shape), (_Count * rank)(*tensor.stride())
        where = _Handle(tensor.data_ptr()), _Count(rank), shape, strides, _Count(0)
        kind = self._calls.double, self._calls.cpu, 0
        self._calls.torch.aoti_torch_create_tensor_from_blob(*where, *kind, ctypes.byref(handle))
        return handle

    def _take(self, handle: _Handle) -> Tensor:
        """A copy of a tensor object, which is deleted."""
        shim = self._calls.torch
        data, rank, kind = _Handle(), _Count(), ctypes.c_int32()
        shape, strides = ctypes.POINTER(_Count)(), ctypes.POINTER(_Count)()
        shim.aoti_torch_get_data_ptr(handle, ctypes.byref(data))
        shim.aoti_torch_get_dim(handle, ctypes.byref(rank))
        shim.aoti_torch_get_dtype(handle, ctypes.byref(kind))
        shim.aoti_torch_get_sizes(handle, ctypes.byref(shape))
        shim.aoti_torch_get_strides(handle, ctypes.byref(strides))
        dtype = torch.float64 if kind.value == self._calls.double else torch.float32
        sizes, steps = shape[: rank.value], strides[: rank.value]
        extent = 1 + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        assert data.value is not None
        memory = (ctypes.c_char * (extent * dtype.itemsize)).from_address(data.value)
        found = torch.frombuffer(memory, dtype=dtype).as_strided(sizes, steps).clone()
        shim.aoti_torch_delete_tensor_object(handle)
        return found


def _load(content: bytes) -> ctypes.CDLL:
    with zipfile.ZipFile(BytesIO(content)) as package, TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        name = next(one for one in package.namelist() if one.endswith((".so", ".dylib", ".pyd", ".dll")))
        return ctypes.CDLL(package.extract(name, folder))


def _library(name: str) -> str:
    return {"win32": f"{name}.dll", "darwin": f"lib{name}.dylib"}.get(sys.platform, f"lib{name}.so")
