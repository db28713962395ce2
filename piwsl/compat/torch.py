"""Private and experimental interfaces of PyTorch. Each function states the latest version tested."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def trace_operations(function: Callable[..., Any], inputs: Sequence[Tensor], symbolic: bool) -> GraphModule:
    """Trace a function of tensors into a graph of operations.

    Layer norms and their derivatives are decomposed into simpler operations, because TorchScript's tracer does not
    support the derivative of a layer norm. Tested with PyTorch 2.12 (`torch._decomp`, ``_allow_non_fake_inputs``).

    Args:
        function: Function that takes and returns tensors.
        inputs: Example inputs; their shapes are fixed unless ``symbolic`` is set.
        symbolic: Trace with symbolic shapes.
    """
    aten = torch.ops.aten
    layer_norms: Any = get_decompositions([aten.native_layer_norm, aten.native_layer_norm_backward])
    mode: Literal["symbolic", "real"] = "symbolic" if symbolic else "real"
    return make_fx(function, layer_norms, tracing_mode=mode, _allow_non_fake_inputs=True)(*inputs)


def copies_to_device(target: Any) -> bool:
    """Return whether the target of a graph node is the operation that copies to another data type or device.

    Tested with PyTorch 2.12 (``aten._to_copy``).
    """
    return bool(target is torch.ops.aten._to_copy.default)


def compile_package(
    module: nn.Module, inputs: tuple[Tensor, ...], sizes: Any, path: Path, options: dict[str, Any]
) -> Path:
    """Compile a module with AOTInductor and return the path of the package.

    Tested with PyTorch 2.12 (`torch._inductor.aoti_compile_and_package`).

    Args:
        module: Module to compile.
        inputs: Example inputs.
        sizes: Dynamic shapes of the inputs, in the form that `torch.export.export` accepts; None if all shapes are
            static.
        path: Path of the package, with the suffix ``.pt2``.
        options: Compiler settings.
    """
    with _quiet_compiler():
        program = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    return Path(package)


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Suppress internal messages of the compiler, because a user cannot act on them."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def torch_bytes(content: Any) -> memoryview:
    """Return the bytes that `torch.save` would write.

    If PyTorch writes to a full disk itself, an exception in the destructor of its writer may abort the process. Seen
    with PyTorch 2.12.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def load_package(path: Path) -> Any:
    """Load an AOTInductor package.

    The method ``loader.run`` of the result takes and returns lists of tensors. Tested with PyTorch 2.12
    (`torch._inductor.aoti_load_package`).

    Raises:
        RuntimeError: The package is damaged.
    """
    return torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
