"""Potentials with several levels of theory: one network body, and one head for each level.

The head is the part of a network after its last layer, whose weights its attribute ``head_weights`` states. The network
itself contains the head of the main level. Each further level has its own copy of these weights and its own
reference energies. Scale and prior are shared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from piwsl.errors import ConfigError
from piwsl.models.potential import DirectPotential, Potential
from piwsl.models.priors.prior import Prior
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Energies, Positions, Species, StructureIndex


def head_names(network: nn.Module) -> list[str]:
    """Return the names of the weights that form the head of a network.

    Raises:
        ConfigError: The class of the network does not state its head, or no weight has such a name.
    """
    # The attribute of the class: a network may well have a module of the same name.
    prefixes: Sequence[str] = getattr(type(network), "head_weights", ())
    names = [
        name
        for name, _ in network.named_parameters()
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    ]
    if not names:
        raise ConfigError(
            f"data.levels: {type(network).__name__} does not state which weights are its head: set the class attribute "
            'head_weights to the beginnings of their names, such as ("readout",)'
        )
    return names


def named_weights(potential: Potential) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights of a potential by their names in the network. Further heads repeat the names of the head."""
    yield from potential.network.named_parameters()
    for head in potential.further_heads if isinstance(potential, LevelsPotential) else ():
        yield from head.named_weights().items()


class Head(nn.Module):
    """Weights of the head of one level, and the energies of its elements.

    Args:
        network: Network whose head is copied.
        elements: Atomic numbers of the elements of the level.
        reference_energies: Reference energy of each element, eV.
    """

    reference_energies: Tensor

    def __init__(self, network: nn.Module, elements: Sequence[int], reference_energies: Sequence[float]) -> None:
        super().__init__()
        self.names = tuple(head_names(network))
        self.elements = sorted(elements)
        self.weights = nn.ParameterList(
            nn.Parameter(network.get_parameter(name).detach().clone()) for name in self.names
        )
        table = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        for number, energy in zip(elements, reference_energies, strict=True):
            table[number] = energy
        self.register_buffer("reference_energies", table)

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Return the weights by the names that they have in the network."""
        return dict(zip(self.names, self.weights, strict=True))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy weights by the names that they have in the network. Absent and unsuitable tensors change nothing."""
        with torch.no_grad():
            for name, weight in self.named_weights().items():
                if name in tensors and tensors[name].shape == weight.shape:
                    weight.copy_(tensors[name])


class LevelsPotential(Potential):
    """Energies and conservative forces of structures at several levels of theory.

    The methods of `Potential` have a further argument, the index ``level`` (S,) of the level of each structure; None
    for structures of the main level 0. `with_levels` builds such a potential.
    """

    heads: nn.ModuleList

    def add_heads(self, heads: Sequence[Head], prior: Prior | None) -> None:
        """Add the heads of the further levels, and replace the prior by one for the elements of all levels."""
        self.heads = nn.ModuleList(heads)
        self.prior = prior

    @property
    def further_heads(self) -> list[Head]:
        """Heads of the further levels."""
        return [head for head in self.heads if isinstance(head, Head)]

    def head(self, index: int) -> Head:
        """Return the head of level ``index``, from 1; the network itself contains the head of the main level 0."""
        return self.further_heads[index - 1]

    def energies_of_elements(self, index: int) -> Tensor:
        """Return the table of reference energies of a level by atomic number, eV. Changes of the table take effect."""
        return self.reference_energies if index == 0 else self.head(index).reference_energies

    def elements_of(self, index: int) -> list[int]:
        """Return the atomic numbers of the elements of a level."""
        return self.elements if index == 0 else self.head(index).elements

    def energies(
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, see `Potential.energies`."""
        edge_vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0]) + edge_shifts
        return self.energies_of_edges(species, edges, edge_vectors, structure_index, n_structures, charge_spin, level)

    def energies_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, from edge vectors (E, 3) in angstrom."""
        total = torch.zeros(n_structures, dtype=torch.float64, device=edge_vectors.device)
        for part in _parts(species, edges, edge_vectors, structure_index, n_structures, charge_spin, level):
            values = self.total_energies(self._result(part), self.energies_of_elements(part.level), *part.graph)
            if part.structures is None:
                return values
            total = total.index_add(0, part.structures, values)
        return total

    def forward(  # type: ignore[override]  # the level is a part of the graph and thus precedes create_graph
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom, see `Potential.forward`."""
        if not positions.requires_grad:
            positions = positions.detach().requires_grad_(True)
        energies = self.energies(
            species, positions, edges, edge_shifts, structure_index, n_structures, charge_spin, level
        )
        (gradient,) = torch.autograd.grad([energies.sum()], [positions], create_graph=create_graph)
        return energies, -gradient

    def _result(self, part: "_Part") -> Any:
        """Return the result of the network with the head of a part."""
        species, edges, edge_vectors, structure_index, n_structures = part.graph
        arguments: tuple[Tensor, ...] = (species, edges, edge_vectors, structure_index)
        if self.takes_charge:
            arguments = (*arguments, self._complete(part.charge_spin, n_structures).to(edge_vectors.dtype))
        if part.level == 0:
            return self.network(*arguments)
        weights: dict[str, Tensor] = {**self.head(part.level).named_weights()}
        return functional_call(self.network, weights, arguments, tie_weights=False)


class DirectLevelsPotential(LevelsPotential, DirectPotential):
    """Energies and direct forces of structures at several levels of theory, see `LevelsPotential`."""

    def energies_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, from edge vectors (E, 3) in angstrom."""
        energies, _ = self.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures, charge_spin, level
        )
        return energies

    def forward(  # type: ignore[override]  # the level is a part of the graph and thus precedes create_graph
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom. Both are always differentiable."""
        edge_vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0]) + edge_shifts
        return self.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures, charge_spin, level
        )

    def energies_and_forces_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        level: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) and forces (N, 3), see `forward`, from edge vectors (E, 3) in angstrom."""
        total = torch.zeros(n_structures, dtype=torch.float64, device=edge_vectors.device)
        forces: Tensor | None = None
        for part in _parts(species, edges, edge_vectors, structure_index, n_structures, charge_spin, level):
            table = self.energies_of_elements(part.level)
            atomic, of_atoms = self._result(part)
            energies, own = self.total_energies_and_forces(atomic, of_atoms, table, *part.graph)
            if part.structures is None or part.atoms is None:
                return energies, own
            total = total.index_add(0, part.structures, energies)
            forces = own.new_zeros((species.shape[0], 3)) if forces is None else forces
            forces = forces.index_add(0, part.atoms, own)
        assert forces is not None
        return total, forces


def with_levels(
    potential: Potential, levels: Sequence[tuple[Sequence[int], Sequence[float]]], prior: Prior | None
) -> LevelsPotential | DirectLevelsPotential:
    """Return a potential with further levels, whose heads are copies of the head of the network.

    Args:
        potential: Potential of the main level. Its network becomes a part of the result.
        levels: Elements (atomic numbers) and their reference energies (eV) at each further level.
        prior: Pair energies for the elements of all levels; None for no such energies.

    Raises:
        ConfigError: The network does not state its head.
    """
    energies = [float(potential.reference_energies[number]) for number in potential.elements]
    kind = DirectLevelsPotential if isinstance(potential, DirectPotential) else LevelsPotential
    made = kind(potential.network, potential.elements, energies, float(potential.scale))
    made.add_heads([Head(potential.network, *level) for level in levels], prior)
    return made


@dataclass(frozen=True)
class _Part:
    """Structures of one level as a graph of its own.

    Attributes:
        level: Index of the level; 0 is the main level.
        graph: Species, edges, edge vectors, structure of each atom, and number of structures.
        charge_spin: Charges and spins (s, 2) of the structures; None if no structure states any.
        structures: Indices (s,) of the structures in the whole graph; None for all.
        atoms: Indices (n,) of their atoms; None for all.
    """

    level: int
    graph: tuple[Species, Edges, EdgeVectors, StructureIndex, int]
    charge_spin: Tensor | None
    structures: Tensor | None = None
    atoms: Tensor | None = None


def _parts(
    species: Species,
    edges: Edges,
    edge_vectors: EdgeVectors,
    structure_index: StructureIndex,
    n_structures: int,
    charge_spin: Tensor | None,
    level: Tensor | None,
) -> Iterator[_Part]:
    """Yield the structures of each level that occurs, in the order of the levels.

    Edges keep their order, so the second half still contains the reversed edges of the first half.
    """
    present = [0] if level is None else torch.unique(level).tolist()
    if level is None or len(present) == 1:
        yield _Part(present[0], (species, edges, edge_vectors, structure_index, n_structures), charge_spin)
        return
    of_atoms = level.index_select(0, structure_index)
    pairs = edges.shape[1] // 2
    of_pairs = of_atoms.index_select(0, edges[0, :pairs])
    for index in present:
        structures = (level == index).nonzero().squeeze(1)
        atoms = (of_atoms == index).nonzero().squeeze(1)
        kept = (of_pairs == index).nonzero().squeeze(1)
        kept = torch.cat((kept, kept + pairs))
        graph = (
            species.index_select(0, atoms),
            _places(atoms, species.shape[0])[edges.index_select(1, kept)],
            edge_vectors.index_select(0, kept),
            _places(structures, n_structures)[structure_index.index_select(0, atoms)],
            structures.shape[0],
        )
        states = None if charge_spin is None else charge_spin.index_select(0, structures)
        yield _Part(index, graph, states, structures, atoms)


def _places(chosen: Tensor, count: int) -> Tensor:
    """Return the place of each of ``count`` items among the chosen ones (count,)."""
    places = chosen.new_zeros(count)
    places[chosen] = torch.arange(chosen.shape[0], device=chosen.device)
    return places
