"""Potentials: energy networks with reference energies, sums over atoms, and derivatives."""

from typing import Final

import torch
from torch import Tensor, nn

from piwsl.models.priors.prior import Prior
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Energies, Positions, Species, StructureIndex


class Potential(nn.Module):
    """Energies and conservative forces of structures.

    The energy E = sum_i ( scale * network_i + E0[Z_i] ) + prior is summed in float64, and the forces are F = -dE/dx.
    Energies and forces have the same scale.

    A network with the attribute ``takes_charge = True`` has a fifth argument, the charge (e) and the number of unpaired
    electrons (S, 2) of each structure. For structures that state none, these are the attributes ``total_charge`` and
    ``unpaired_electrons`` of the network, by default 0.

    Args:
        network: Energy network, which returns one value per atom.
        elements: Atomic numbers that the potential supports.
        reference_energies: Reference energy of each element, eV.
        scale: Energy per unit of the network output, eV.
        prior: Pair energies that are added to the network; None for no such energies.
    """

    reference_energies: Tensor
    scale: Tensor
    default_charge_spin: Tensor
    takes_charge: Final[bool]

    def __init__(
        self,
        network: nn.Module,
        elements: list[int],
        reference_energies: list[float],
        scale: float = 1.0,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prior = prior
        self.elements = sorted(elements)
        table = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        for number, energy in zip(elements, reference_energies, strict=True):
            table[number] = energy
        self.register_buffer("reference_energies", table)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.takes_charge = bool(getattr(network, "takes_charge", False))
        if self.takes_charge:
            values = [float(getattr(network, name, 0.0)) for name in ("total_charge", "unpaired_electrons")]
            default = torch.tensor([values], dtype=torch.float64)
            self.register_buffer("default_charge_spin", default, persistent=False)

    def _complete(self, charge_spin: Tensor | None, n_structures: int) -> Tensor:
        """Return the charge and number of unpaired electrons (S, 2) of each structure, float64."""
        if charge_spin is None:
            return self.default_charge_spin.expand(n_structures, 2)
        states = charge_spin.to(torch.float64)
        return torch.where(torch.isnan(states), self.default_charge_spin, states)

    def energies(
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV.

        Args:
            species: Atomic numbers (N,).
            positions: Positions (N, 3), angstrom.
            edges: Center i and neighbor j of each edge (2, E).
            edge_shifts: Shift (E, 3) to the periodic image of the neighbor, added to r_j - r_i, angstrom.
            structure_index: Structure of each atom (N,).
            n_structures: Number of structures S.
            charge_spin: Charge (e) and number of unpaired electrons (S, 2) of each structure; NaN, or None for all
                structures, selects the values in `default_charge_spin`. Ignored unless `takes_charge` is set.
        """
        edge_vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0]) + edge_shifts
        return self.energies_of_edges(species, edges, edge_vectors, structure_index, n_structures, charge_spin)

    def energies_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, from edge vectors (E, 3) in angstrom."""
        if self.takes_charge:
            states = self._complete(charge_spin, n_structures).to(edge_vectors.dtype)
            atomic: Tensor = self.network(species, edges, edge_vectors, structure_index, states)
        else:
            atomic = self.network(species, edges, edge_vectors, structure_index)
        return self.total_energies(
            atomic, self.reference_energies, species, edges, edge_vectors, structure_index, n_structures
        )

    def total_energies(
        self,
        atomic: Tensor,
        reference_energies: Tensor,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, from the results (N,) of the network.

        ``reference_energies`` is a table of the energies of the elements by atomic number, eV.
        """
        atomic = atomic.to(torch.float64)
        atomic = atomic * self.scale + reference_energies[species]
        if self.prior is not None:
            atomic = atomic.index_add(0, edges[0], self.prior(species, edges, edge_vectors).to(torch.float64))
            atomic = atomic + self.prior.offset
        return atomic.new_zeros(n_structures).index_add(0, structure_index, atomic)

    def forward(
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom.

        With ``create_graph``, the forces are differentiable, as required for training on forces. `energies` describes
        the other arguments.
        """
        if not positions.requires_grad:
            positions = positions.detach().requires_grad_(True)
        energies = self.energies(species, positions, edges, edge_shifts, structure_index, n_structures, charge_spin)
        gradient = torch.autograd.grad([energies.sum()], [positions], create_graph=create_graph)[0]
        assert gradient is not None
        return energies, -gradient


class DirectPotential(Potential):
    """Energies and direct forces of structures, which the network returns with the same scale.

    The arguments are the same as for `Potential`. The network returns the energy (N,) and the force (N, 3) of each
    atom.
    """

    def energies_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> Energies:
        """Return the energy of each structure (S,), float64, eV, from edge vectors (E, 3) in angstrom."""
        energies, _ = self.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures, charge_spin
        )
        return energies

    def forward(
        self,
        species: Species,
        positions: Positions,
        edges: Edges,
        edge_shifts: Tensor,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) in eV, float64, and forces (N, 3) in eV/angstrom. Both are always differentiable."""
        edge_vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0]) + edge_shifts
        return self.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures, charge_spin
        )

    def energies_and_forces_of_edges(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) and forces (N, 3), see `forward`, from edge vectors (E, 3) in angstrom."""
        if self.takes_charge:
            states = self._complete(charge_spin, n_structures).to(edge_vectors.dtype)
            atomic, forces = self.network(species, edges, edge_vectors, structure_index, states)
        else:
            atomic, forces = self.network(species, edges, edge_vectors, structure_index)
        return self.total_energies_and_forces(
            atomic, forces, self.reference_energies, species, edges, edge_vectors, structure_index, n_structures
        )

    def total_energies_and_forces(
        self,
        atomic: Tensor,
        forces: Tensor,
        reference_energies: Tensor,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        n_structures: int,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (S,) and forces (N, 3) from the results of the network, see `Potential.total_energies`."""
        energies: Tensor = atomic.to(self.scale.dtype) * self.scale + reference_energies[species]
        forces = forces * self.scale.to(forces.dtype)
        if self.prior is not None:
            of_prior, pushes = self.prior.energies_and_forces(species, edges, edge_vectors)
            energies = energies.index_add(0, edges[0], of_prior.to(energies.dtype)) + self.prior.offset
            forces = forces + pushes
        energies = energies.new_zeros(n_structures).index_add(0, structure_index, energies)
        return energies, forces
