"""Call packages compiled by AOTInductor through their C interface, with ctypes.

PyTorch calls a package that it has loaded under a lock, so that only one thread runs at a time. This module loads the
package again and gives each thread its own container. Tested with PyTorch 2.12 on Linux.
"""

import ctypes
import sys
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from piwsl.errors import EngineError

_Handle: TypeAlias = ctypes.c_void_p
_Count: TypeAlias = ctypes.c_int64


class AotiRunners:
    """Compiled CPU code of a package, loaded independently of other copies in this process.

    Args:
        content: Content of the package file.
        folder: Empty folder for the library inside the package, which may be removed once it is loaded.

    Raises:
        EngineError: The package or this version of PyTorch lacks the interface.
    """

    def __init__(self, content: bytes, folder: Path) -> None:
        # Short calls keep the GIL: releasing it would take longer than the calls themselves.
        try:
            self.torch: Any = ctypes.PyDLL(str(Path(torch.__file__).parent / "lib" / _library("torch_cpu")))
            self.program: Any = _load(content, folder)
            self.double, self.single = self.torch.aoti_torch_dtype_float64(), self.torch.aoti_torch_dtype_float32()
            self.cpu = self.torch.aoti_torch_device_type_cpu()
            self.run = self.program.AOTInductorModelContainerRunSingleThreaded
        except (OSError, AttributeError, StopIteration) as error:
            raise EngineError(f"the compiled package cannot be called without the GIL ({error})") from None

    def new(self) -> "AotiRunner":
        """Return a runner for one thread."""
        return AotiRunner(self)


class AotiRunner:
    """Call a package with float64 tensors in one thread.

    Raises:
        EngineError: The package cannot be started.
    """

    def __init__(self, calls: AotiRunners) -> None:
        self._calls = calls
        self._container = _Handle()
        create = calls.program.AOTInductorModelContainerCreateWithDevice
        if create(ctypes.byref(self._container), ctypes.c_size_t(1), b"cpu", None):
            raise EngineError("the compiled package cannot be started: export it again")
        count = ctypes.c_size_t()
        calls.program.AOTInductorModelContainerGetNumOutputs(self._container, ctypes.byref(count))
        self._outputs = count.value

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return copies of the results for contiguous float64 tensors on the CPU."""
        handles = (_Handle * len(inputs))(*(self._lend(tensor).value for tensor in inputs))
        results = (_Handle * self._outputs)()
        sizes = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(self._outputs)
        if self._calls.run(self._container, handles, sizes[0], results, sizes[1], None, None):
            raise RuntimeError("the compiled package failed: export it again")
        return [self._take(_Handle(result)) for result in results]

    def __del__(self) -> None:
        if self._container:
            self._calls.program.AOTInductorModelContainerDelete(self._container)

    def _lend(self, tensor: Tensor) -> _Handle:
        """Wrap the memory of a tensor in a tensor object that the package will delete."""
        handle, rank = _Handle(), tensor.dim()
        shape, strides = (_Count * rank)(*tensor.shape), (_Count * rank)(*tensor.stride())
        where = _Handle(tensor.data_ptr()), _Count(rank), shape, strides, _Count(0)
        kind = self._calls.double, self._calls.cpu, 0
        self._calls.torch.aoti_torch_create_tensor_from_blob(*where, *kind, ctypes.byref(handle))
        return handle

    def _take(self, handle: _Handle) -> Tensor:
        """Copy the values of a tensor object and delete the object."""
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
        result = torch.frombuffer(memory, dtype=dtype).as_strided(sizes, steps).clone()
        shim.aoti_torch_delete_tensor_object(handle)
        return result


def _load(content: bytes, folder: Path) -> ctypes.CDLL:
    """Load the shared library inside a package."""
    with zipfile.ZipFile(BytesIO(content)) as package:
        name = next(name for name in package.namelist() if name.endswith((".so", ".dylib", ".pyd", ".dll")))
        return ctypes.CDLL(package.extract(name, folder))


def _library(name: str) -> str:
    """Return the file name of a shared library on this system."""
    return {"win32": f"{name}.dll", "darwin": f"lib{name}.dylib"}.get(sys.platform, f"lib{name}.so")
