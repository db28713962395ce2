"""Compiled forms of a potential, whose energies and forces are computed by one call of a ``.pt2`` package.

The operations of the potential and its derivative are traced as a graph. AOTInductor compiles the graph with a C++
compiler. A package requires the CPU or GPU type and the PyTorch version for which it was compiled.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from piwsl.compat import torch as compat
from piwsl.errors import ExportError
from piwsl.export.forms.graph import molecule_function, trace
from piwsl.export.forms.scripted import EdgesCore, copy_after_copy, pair_edges
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import Potential
from piwsl.runs.files import write_bytes
from piwsl.runs.process_settings import environment_variable
from piwsl.runs.scratch import folder_without_spaces, scratch_directory, temporary_files_in


@dataclass(frozen=True)
class Program:
    """Traced graph to compile.

    Attributes:
        graph: Graph of the traced operations.
        inputs: Example inputs.
        sizes: Dynamic sizes of the inputs, in the form of `torch.export.export`; None if all sizes are fixed.
    """

    graph: GraphModule
    inputs: tuple[Tensor, ...]
    sizes: Any


def molecule_program(
    potentials: Sequence[Potential], pairs: MoleculePairs, species: Tensor, positions: Tensor, dtype: torch.dtype
) -> Program:
    """Return the program for R copies of a molecule. Atoms are ordered copy after copy.

    The inputs are positions (R n, 3), the cell (3, 3) and its inverse, float64, angstrom. Without a cell, both matrices
    are zero. The results are energies (M, R) and forces (M, R n, 3).
    """
    evaluate = molecule_function(potentials, pairs, species)
    first, second = pair_edges(pairs)

    def program(positions: Tensor, cell: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        vectors = positions[second] - positions[first]
        vectors = vectors - torch.round(vectors.matmul(inverse)).matmul(cell)
        energies, forces = evaluate(vectors.to(dtype))
        return energies, copy_after_copy(forces, pairs.copies)

    inputs = (positions, positions.new_zeros(3, 3), positions.new_zeros(3, 3))
    return Program(_without_views(trace(program, inputs)), inputs, None)


def edges_program(core: EdgesCore, inputs: tuple[Tensor, ...]) -> Program:
    """Return the program for any structure.

    The inputs are species (N,), edges (2, E), edge vectors (E, 3) and, for networks that take the charge as input, the
    charge and the number of unpaired electrons (1, 2), float64, NaN for the defaults of the model. The results are
    energies (M, 1), forces (M, N, 3) and virials (M, 1, 3, 3).
    """

    def program(species: Tensor, edges: Tensor, edge_vectors: Tensor, *states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.zeros_like(species)
        results = [member(species, edges, edge_vectors, index, 1, *states) for member in core.members]
        energies, forces, virials = zip(*results, strict=True)
        return torch.stack(energies), torch.stack(forces), torch.stack(virials)

    atoms = torch.export.Dim("atoms", min=2)
    edges = 2 * torch.export.Dim("pairs", min=2)  # each pair in both directions
    sizes = ({0: atoms}, {1: edges}, {0: edges}, *({} for _ in inputs[3:]))
    graph = trace(program, inputs, symbolic=True)
    return Program(graph, inputs, (sizes,))


def compile_package(program: Program, output: Path) -> None:
    """Compile a program and write the package.

    Raises:
        ExportError: There is no C++ compiler, or the compiler fails. Nothing is written.
    """
    if not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise ExportError(
            "format='aotinductor' requires a C++ compiler, but neither g++ nor clang++ was found: "
            "install one of them, or choose format='torchscript'"
        )
    # Loops are limited to one thread, because parallel loops computed wrong sums over edges (PyTorch 2.12). Matrix
    # products use all threads. By default, PyTorch stores intermediate files, including code that it loads again, in
    # folders with predictable names, which another user could have created. These folders are new and private.
    options = {"cpp.threads": 1, "aot_inductor.precompile_headers": False}
    parent = folder_without_spaces()
    if parent is None:
        raise ExportError("the C++ compiler does not accept paths with spaces: set TMPDIR to a folder without spaces")
    with (
        scratch_directory("compile", parent) as folder,
        environment_variable("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache")),
        temporary_files_in(folder),
    ):
        try:
            module, package = _Module(program.graph), folder / "model.pt2"
            made = compat.compile_package(module, program.inputs, program.sizes, package, options)
        except Exception as error:  # compilers raise many kinds of errors
            if "No space left" in str(error):
                raise ExportError(
                    f"{parent}: no disk space left for the compiler: free some space, or set TMPDIR"
                ) from None
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(
                f"AOTInductor could not compile the potential ({reason}): export with format='torchscript'"
            ) from error
        write_bytes(output, made.read_bytes())


def _without_views(graph: GraphModule) -> GraphModule:
    """Replace views by reshapes, because the compiler may choose a memory layout that does not allow a view."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    graph.recompile()
    return graph


class _Module(nn.Module):
    """Module that wraps a traced graph, as `torch.export.export` requires."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.traced = graph  # `torch.export` uses the attribute ``graph`` itself

    def forward(self, *inputs: Tensor) -> Any:
        return self.traced(*inputs)
