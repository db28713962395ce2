"""A potential as a straight list of tensor operations: energy and forces in one graph, nothing left to differentiate.

The eager potential runs once while its operations are recorded, those of its derivative included; what depends
on constants alone is computed here. The graph becomes TorchScript or compiled code.
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

# Fewer atoms have no pairs, or a ring of none.
SMALLEST_MOLECULE = 2
# Elements of a view that is stored as an array of its own, even where elements repeat in it.
LARGEST_COPIED = 2**15

MoleculeFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pair vectors (P, 3) in angstrom -> energies (M, R), float64, eV, and forces (M, n R, 3), eV/angstrom.

Pairs and atoms are in the order of `MoleculePairs`: atom i of copy r is row i R + r.
"""


def molecule_function(potentials: Sequence[Potential], pairs: MoleculePairs, species: Tensor) -> MoleculeFunction:
    """Energies and forces of the R copies of a molecule by each of M potentials, which take their sums from ``pairs``.

    Args:
        potentials: members of an ensemble, or a single one.
        pairs: of the molecule and its copies.
        species: (n,) of the molecule.
    """
    edges = pairs.pair_edges()
    copies = pairs.copies
    numbers = species.repeat_interleave(copies)
    index = torch.arange(copies, device=species.device).repeat(len(species))

    def conservative(potential: Potential, vectors: Tensor) -> tuple[Tensor, Tensor]:
        vectors = vectors.detach().requires_grad_(True)
        energies = potential.energies_of_edges(numbers, edges, vectors, index, copies)
        # A constant to start from: the way back up to the first product with features is computed when recording.
        ones = torch.ones(copies, dtype=energies.dtype, device=energies.device)
        return energies.detach(), pairs.forces(torch.autograd.grad([energies], [vectors], [ones])[0])

    def direct(potential: DirectPotential, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return potential.energies_and_forces_of_edges(numbers, edges, vectors, index, copies)

    def evaluate(vectors: Tensor) -> tuple[Tensor, Tensor]:
        found = [
            direct(potential, vectors) if isinstance(potential, DirectPotential) else conservative(potential, vectors)
            for potential in potentials
        ]
        return torch.stack([energy for energy, _ in found]), torch.stack([forces for _, forces in found])

    return evaluate


def trace(function: Callable[..., Any], inputs: Sequence[Tensor], symbolic: bool = False) -> GraphModule:
    """Return the operations of a function of tensors as a graph, with constants folded.

    Args:
        function: runs once, on ``inputs``.
        inputs: examples; their shapes are fixed unless ``symbolic``.
        symbolic: keep the sizes of the inputs open.
    """
    graph = trace_operations(function, inputs, symbolic)
    graph.graph.eliminate_dead_code()
    _simplify(graph)
    _fold_constants(graph)
    _drop_what_is_unused(graph)
    _merge_repeated(graph)
    return graph


def as_torchscript(graph: GraphModule, inputs: Sequence[Tensor]) -> torch.jit.ScriptModule:
    """A recorded graph of fixed shapes as TorchScript.

    Raises:
        ExportError: an operation names a device: the module could not be loaded on another one.
    """
    tied = [node.name for node in graph.graph.nodes if node.kwargs.get("device") is not None]
    if tied:
        raise ExportError(f"operations of the graph are tied to a device: {', '.join(tied[:5])}")
    _products_as_linear(graph)
    graph.recompile()
    with torch.no_grad():
        traced = torch.jit.trace(graph, tuple(inputs), check_trace=False)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


def _products_as_linear(graph: GraphModule) -> None:
    """Write matrix products as `linear`.

    TorchScript joins sums of `mm`, also those it makes of `addmm` and `matmul`, into larger products, and gets them
    wrong where their inner sizes differ (seen with PyTorch 2.12 in frozen modules, as TorchForce makes them).
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
    _drop_what_is_unused(graph)


def _simplify(graph: GraphModule) -> None:
    """Drop what does nothing here: detaching without gradients, naming the one device there is."""
    aten = torch.ops.aten
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif copies_to_device(node.target):
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "device"}


def _fold_constants(graph: GraphModule) -> None:
    """Compute now what does not depend on the inputs."""
    values: dict[Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = _attribute(graph, str(node.target))
        elif node.op == "call_function" and all(argument in values for argument in node.all_input_nodes):
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            value = node.target(*arguments[0], **arguments[1])
            # A large view in which elements repeat would be many times as large as what it looks at.
            if not _repeats_elements(value):
                values[node] = value
    count = 0
    for node, value in values.items():
        wanted = isinstance(value, Tensor) and any(user not in values for user in node.users)
        if node.op == "get_attr" or not wanted:
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


def _drop_what_is_unused(graph: GraphModule) -> None:
    """Nodes nobody reads, and tensors that no node names; a tensor with several names keeps one."""
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
    """Compute once what several places ask for; nothing here changes its arguments or is random."""
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
