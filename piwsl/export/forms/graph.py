"""Potential as a graph of tensor operations, including the derivative of the energy.

The eager potential runs once, and the operations of the energy and its derivative are traced. Operations on constants
are folded. The graph is then converted to TorchScript or compiled.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from piwsl.compat.torch import copies_to_device, trace_operations
from piwsl.errors import ExportError
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import DirectPotential, Potential

# A single atom has no pairs.
SMALLEST_MOLECULE = 2
# Views with at most this number of elements are stored as arrays, even if elements repeat.
LARGEST_COPIED = 2**15

MoleculeFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function that maps pair vectors (P, 3) to energies (M, R), float64, and forces (M, n R, 3), in eV and angstrom.

Pairs and atoms have the order of `MoleculePairs`, in which row i R + r contains atom i of copy r.
"""


def molecule_function(potentials: Sequence[Potential], pairs: MoleculePairs, species: Tensor) -> MoleculeFunction:
    """Return a function for energies and forces of R copies of a molecule with M potentials.

    Args:
        potentials: Members of an ensemble, or a single model. Their neighbor sums must use ``pairs``.
        pairs: All pairs of the molecule and its copies.
        species: Atomic numbers (n,) of the molecule.
    """
    edges = pairs.pair_edges()
    copies = pairs.copies
    numbers = species.repeat_interleave(copies)
    index = torch.arange(copies, device=species.device).repeat(len(species))

    def conservative(potential: Potential, vectors: Tensor) -> tuple[Tensor, Tensor]:
        vectors = vectors.detach().requires_grad_(True)
        energies = potential.energies_of_edges(numbers, edges, vectors, index, copies)
        # With a constant upstream gradient, tracing folds the backward pass up to the first features.
        ones = torch.ones(copies, dtype=energies.dtype, device=energies.device)
        return energies.detach(), pairs.forces(torch.autograd.grad([energies], [vectors], [ones])[0])

    def direct(potential: DirectPotential, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return potential.energies_and_forces_of_edges(numbers, edges, vectors, index, copies)

    def evaluate(vectors: Tensor) -> tuple[Tensor, Tensor]:
        results = [
            direct(potential, vectors) if isinstance(potential, DirectPotential) else conservative(potential, vectors)
            for potential in potentials
        ]
        return torch.stack([energies for energies, _ in results]), torch.stack([forces for _, forces in results])

    return evaluate


def trace(function: Callable[..., Any], inputs: Sequence[Tensor], symbolic: bool = False) -> GraphModule:
    """Trace the operations of a function of tensors as a graph with folded constants.

    Args:
        function: Function to trace. It runs once on ``inputs``.
        inputs: Example inputs. Their shapes are fixed unless ``symbolic`` is set.
        symbolic: Whether the sizes of the inputs are dynamic.
    """
    graph = trace_operations(function, inputs, symbolic)
    graph.graph.eliminate_dead_code()
    _simplify(graph)
    _fold_constants(graph)
    _remove_unused(graph)
    _merge_repeated(graph)
    return graph


def as_torchscript(graph: GraphModule, inputs: Sequence[Tensor]) -> torch.jit.ScriptModule:
    """Convert a traced graph of fixed shapes to TorchScript.

    Raises:
        ExportError: An operation contains a device, so the module could not be loaded on another device.
    """
    tied = [node.name for node in graph.graph.nodes if node.kwargs.get("device") is not None]
    if tied:
        raise ExportError(
            f"graph operations with a fixed device: {', '.join(tied[:5])}: create tensors with the device of an input"
        )
    _products_as_linear(graph)
    graph.recompile()
    with torch.no_grad():
        traced = torch.jit.trace(graph, tuple(inputs), check_trace=False)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


def _products_as_linear(graph: GraphModule) -> None:
    """Replace matrix products by `linear`.

    TorchScript combines sums of `mm` into larger products, including `mm` operations that it creates from `addmm` and
    `matmul`. The results are wrong if the inner sizes differ. The error occurs with PyTorch 2.12 in frozen modules,
    which TorchForce creates.
    """
    aten = torch.ops.aten
    for node in list(graph.graph.nodes):
        if node.target is aten.mm.default:
            left, right, bias = node.args[0], node.args[1], None
        elif node.target is aten.addmm.default and not node.kwargs:
            bias, left, right = node.args
        else:
            continue
        with graph.graph.inserting_before(node):
            turned = graph.graph.call_function(aten.t.default, (right,))
            product = graph.graph.call_function(aten.linear.default, (left, turned, bias))
        node.replace_all_uses_with(product)
        if right.target is aten.t.default:
            turned.replace_all_uses_with(right.args[0])
    graph.graph.eliminate_dead_code()
    _fold_constants(graph)
    _remove_unused(graph)


def _simplify(graph: GraphModule) -> None:
    """Remove detach and alias operations, and the device argument of copies and of arrays made like others."""
    aten = torch.ops.aten
    made_like_others = (aten.new_zeros.default, aten.new_ones.default, aten.new_empty.default, aten.new_full.default)
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif copies_to_device(node.target) or node.target in made_like_others:
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "device"}


def _fold_constants(graph: GraphModule) -> None:
    """Replace operations that do not depend on the inputs by constants."""
    values: dict[Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = _attribute(graph, str(node.target))
        elif node.op == "call_function" and all(argument in values for argument in node.all_input_nodes):
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            value = node.target(*arguments[0], **arguments[1])
            # A stored copy of a large view with repeated elements would be much larger than the original tensor.
            if not _repeats_elements(value):
                values[node] = value
    count = 0
    for node, value in values.items():
        is_used = isinstance(value, Tensor) and any(user not in values for user in node.users)
        if node.op == "get_attr" or not is_used:
            continue
        while hasattr(graph, name := f"constant_{count}"):
            count += 1
        graph.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        with graph.graph.inserting_before(node):
            node.replace_all_uses_with(graph.graph.get_attr(name))


def _repeats_elements(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.numel() > LARGEST_COPIED
        and value.numel() * value.element_size() > value.untyped_storage().nbytes()
    )


def _remove_unused(graph: GraphModule) -> None:
    """Remove unused nodes and tensors, and merge several names of the same tensor."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    names: dict[int, str] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            node.target = names.setdefault(id(_attribute(graph, str(node.target))), str(node.target))
    held = [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]
    for name in {name for name, _ in held} - set(names.values()):
        delattr(graph, name)
    graph.recompile()


def _merge_repeated(graph: GraphModule) -> None:
    """Merge equal operations. All operations are deterministic and do not modify their arguments."""
    known: dict[str, Node] = {}
    for node in list(graph.graph.nodes):
        if node.op in ("get_attr", "call_function"):
            first = known.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
            if first is not node:
                node.replace_all_uses_with(first)
                graph.graph.erase_node(node)
    graph.recompile()


def _attribute(graph: GraphModule, path: str) -> Any:
    value: Any = graph
    for name in path.split("."):
        value = getattr(value, name)
    return value
