"""Compiled forms: energy and forces as one call of machine code (AOTInductor), in a package ``.pt2``.

The potential is recorded as a graph, its derivative included, and compiled by PyTorch's Inductor with a C++ compiler.
Such a package runs on the kind of processor and the version of PyTorch it was made with.
"""

import ctypes
import json
import logging
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from piwsl.errors import EngineError, ExportError
from piwsl.export.forms.graph import molecule_function, record
from piwsl.export.forms.scripted import EdgesCore, copy_after_copy, pair_edges
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import Potential
from piwsl.runs.files import atomic_path


@dataclass(frozen=True)
class Program:
    """What to compile.

    Attributes:
        graph: recorded operations.
        inputs: an example of what it takes.
        sizes: which sizes of the inputs stay open, as `torch.export` takes them; None: none.
    """

    graph: GraphModule
    inputs: tuple[Tensor, ...]
    sizes: Any


def molecule_program(
    potentials: Sequence[Potential], pairs: MoleculePairs, species: Tensor, positions: Tensor, dtype: torch.dtype
) -> Program:
    """What to compile for one molecule, or for R copies of it, copy after copy.

    The inputs are positions (R n, 3), cell (3, 3) and its inverse, float64, angstrom; both zero for no cell. The
    results are energies (M, R) and forces (M, R n, 3).
    """
    evaluate = molecule_function(potentials, pairs, species)
    first, second = pair_edges(pairs)

    def program(positions: Tensor, cell: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        vectors = positions[second] - positions[first]
        vectors = vectors - torch.round(vectors.matmul(inverse)).matmul(cell)
        energies, forces = evaluate(vectors.to(dtype))
        return energies, copy_after_copy(forces, pairs.copies)

    inputs = (positions, positions.new_zeros(3, 3), positions.new_zeros(3, 3))
    return Program(_without_views(record(program, inputs)), inputs, None)


def edges_program(core: EdgesCore, inputs: tuple[Tensor, Tensor, Tensor]) -> Program:
    """What to compile for any structure.

    The inputs are species (N,), edges (2, E) and edge vectors (E, 3); the results energies (M, 1), forces (M, N, 3) and
    virials (M, 1, 3, 3).
    """

    def program(species: Tensor, edges: Tensor, edge_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.zeros_like(species)
        found = [member(species, edges, edge_vectors, index, 1) for member in core.members]
        energies, forces, virials = ([one[part] for one in found] for part in range(3))
        return torch.stack(energies), torch.stack(forces), torch.stack(virials)

    atoms = torch.export.Dim("atoms", min=2)
    edges = torch.export.Dim("edges", min=2)
    sizes = ({0: atoms}, {1: edges}, {0: edges})
    graph = record(program, inputs, symbolic=True)
    return Program(graph, inputs, (sizes,))


def compile_package(program: Program, output: Path) -> None:
    """Compile a program and write the package.

    Raises:
        ExportError: there is no C++ compiler, or the compiler fails; nothing is written.
    """
    if program.inputs[0].device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise ExportError(
            "--format aotinductor needs a C++ compiler (g++ or clang++), none was found: "
            "install one, or choose --format torchscript"
        )
    # Loops stay in one thread, products use all: with threads of their own, sums over edges were wrong (PyTorch 2.12).
    options = {"cpp.threads": 1}
    with TemporaryDirectory() as folder, _quietly():
        try:
            exported = torch.export.export(
                _Module(program.graph), program.inputs, dynamic_shapes=program.sizes, strict=False
            )
            made = torch._inductor.aoti_compile_and_package(
                exported, package_path=str(Path(folder) / "model.pt2"), inductor_configs=options
            )
        except Exception as error:  # whatever a compiler meets
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(
                f"AOTInductor could not compile the potential ({reason}): use --format torchscript"
            ) from error
        with atomic_path(output) as temporary:
            shutil.copyfile(made, temporary)


def add_description(path: Path, name: str, info: dict[str, Any]) -> None:
    """Put a description into a package, as a JSON file among its extra files."""
    with zipfile.ZipFile(path, "a") as package:
        root = package.namelist()[0].split("/")[0]
        package.writestr(f"{root}/extra/{name}", json.dumps(info, indent=1))


def _without_views(graph: GraphModule) -> GraphModule:
    """Let the compiler decide whether another shape needs a copy: it lays out products of shifted views its own way."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    graph.recompile()
    return graph


class _Module(nn.Module):
    """`torch.export` takes modules, of which a recorded graph is not quite one."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.recorded = graph  # (the attribute ``graph`` means something else to `torch.export`)

    def forward(self, *inputs: Tensor) -> Any:
        return self.recorded(*inputs)


@contextmanager
def _quietly() -> Iterator[None]:
    """What the compiler has to say of itself is not for whoever exports a potential."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


_Handle: TypeAlias = ctypes.c_void_p
_Count: TypeAlias = ctypes.c_int64


class AotiRunners:
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

    def new(self) -> "AotiRunner":
        """Something that one thread can call."""
        return AotiRunner(self)


class AotiRunner:
    """Float64 tensors to the results of the package, in the memory of one thread."""

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
