"""Private and experimental interfaces of PyTorch. Each function names the version it was last seen to work with."""

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
    """Run a function of tensors once and return its operations as a graph.

    Layer norms and their derivatives are decomposed into simpler operations, because TorchScript's tracer does not
    support their derivative. Seen with PyTorch 2.12 (`torch._decomp`, ``_allow_non_fake_inputs``).

    Args:
        function: Takes and returns tensors.
        inputs: Examples; their shapes are fixed unless ``symbolic``.
        symbolic: Keep the sizes of the inputs open.
    """
    aten = torch.ops.aten
    layer_norms: Any = get_decompositions([aten.native_layer_norm, aten.native_layer_norm_backward])
    mode: Literal["symbolic", "real"] = "symbolic" if symbolic else "real"
    return make_fx(function, layer_norms, tracing_mode=mode, _allow_non_fake_inputs=True)(*inputs)


def copies_to_device(target: Any) -> bool:
    """Return whether the target of a graph node is the operation that copies to a type and device.

    Seen with PyTorch 2.12 (``aten._to_copy``).
    """
    return bool(target is torch.ops.aten._to_copy.default)


def compile_package(
    module: nn.Module, inputs: tuple[Tensor, ...], sizes: Any, path: Path, options: dict[str, Any]
) -> Path:
    """Compile a module with AOTInductor and return the path of the package.

    Seen with PyTorch 2.12 (`torch._inductor.aoti_compile_and_package`).

    Args:
        module: What to compile.
        inputs: Examples.
        sizes: Sizes of the inputs that stay open, as `torch.export.export` takes them; None: none.
        path: The package to write, ``.pt2``.
        options: Settings of the compiler.
    """
    with _quiet_compiler():
        program = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    return Path(package)


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Suppress messages of the compiler about itself, which a user cannot act on."""
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
    """Return what `torch.save` writes; written by PyTorch itself, a full disk may end the process.

    Seen with PyTorch 2.12: an exception in the destructor of its writer.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def load_package(path: Path) -> Any:
    """Load a package of AOTInductor; ``loader.run`` of the result takes and returns lists of tensors.

    Seen with PyTorch 2.12 (`torch._inductor.aoti_load_package`).

    Raises:
        RuntimeError: The package is damaged.
    """
    return torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
