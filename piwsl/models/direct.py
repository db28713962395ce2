"""A potential with a force head of its own: fast, but its forces are not the gradient of its energy."""

from torch import Tensor

from piwsl.models.potential import Potential
from piwsl.typing import Edges, EdgeVectors, Energies, Positions, Species, StructureIndex


class DirectPotential(Potential):
    """Energies and direct forces of structures, both from the network and on one scale.

    The arguments are those of `Potential`; the network gives the energy (N,) and the force (N, 3) of each atom.
    """

    def energies_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
    ) -> Energies:
        """Energy of each structure (S,), float64, eV, from edge vectors (E, 3) in angstrom."""
        energies, _ = self.energies_and_forces_of_edges(species, edges, edge_vectors, structure_index, n_structures)
        return energies

    def forward(
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Energies (S,) float64 in eV and forces (N, 3) in eV/angstrom; both can always be differentiated."""
        edge_vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0]) + edge_shifts
        return self.energies_and_forces_of_edges(species, edges, edge_vectors, structure_index, n_structures)

    def energies_and_forces_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
    ) -> tuple[Tensor, Tensor]:
        """What `forward` gives, from edge vectors (E, 3) in angstrom."""
        atomic, forces = self.network(species, edges, edge_vectors, structure_index)
        energies: Tensor = atomic.to(self.scale.dtype) * self.scale + self.reference_energies[species]
        energies = energies.new_zeros(n_structures).index_add(0, structure_index, energies)
        return energies, forces * self.scale.to(forces.dtype)
