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

        def attempt(settings: dict[str, Any]) -> Path:
            package = torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=settings
            )
            return Path(package)

        # By default, PyTorch finds out whether the C++ compiler supports the vector instructions of the processor: it
        # compiles and runs a program for each set of them, which takes ten seconds. Nearly all compilers do.
        try:
            return attempt({"cpp.vec_isa_ok": True, **options})
        except Exception as error:
            if not _is_compiler_error(error):
                raise
        from torch._inductor import cpu_vec_isa

        cpu_vec_isa.valid_vec_isa_list.cache_clear()
        return attempt(options)


def _is_compiler_error(error: BaseException | None) -> bool:
    """Return whether the C++ compiler failed: the error itself, or one that led to it."""
    while error is not None:
        if type(error).__name__ == "CppCompileError":
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__
    return False


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

    The method ``run`` of the result takes and returns lists of tensors. `torch._inductor.aoti_load_package` returns the
    same object in a wrapper, but first compiles and runs programs that detect the vector instructions of the processor,
    which takes ten seconds, only to log a difference. Tested with PyTorch 2.12.

    Raises:
        RuntimeError: The package is damaged.
    """
    single_threaded, runners, device_index = True, 1, -1  # the last: the device of the package
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", single_threaded, runners, device_index)
