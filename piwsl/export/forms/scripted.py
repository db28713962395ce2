"""The modules that are scripted: a potential with everything that an engine needs.

Only these classes, `NeighborSearch`, `Potential` and the networks are restricted to what TorchScript supports. M is the
number of members of an ensemble, 1 for a single model.
"""

import torch
from ase.data import chemical_symbols
from ase.symbols import Symbols
from torch import Tensor, nn

from piwsl.export.neighbors.search import NeighborSearch
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import DirectPotential, Potential
from piwsl.units import KJ_PER_MOL, NANOMETER


class FixedAtoms(nn.Module):
    """The atoms that a form was made for; a module of its own, so that every form checks its inputs in the same way.

    Args:
        species: Atomic numbers of all atoms, copy after copy.
        copies: Number of copies of a molecule.
    """

    def __init__(self, species: list[int], copies: int = 1) -> None:
        super().__init__()
        self.species = list(species)
        self.symbols = [chemical_symbols[number] for number in species]
        formula = str(Symbols(species[: len(species) // copies]).get_chemical_formula("hill"))
        self.formula = formula if copies == 1 else f"{copies} copies of {formula}"

    def forward(self, positions: Tensor) -> None:
        """Refuse positions of another number of atoms, for which the results would be wrong or not initialized."""
        if positions.dim() != 2 or positions.size(0) != len(self.species) or positions.size(1) != 3:
            count = positions.size(0) if positions.dim() > 0 else 0
            raise ValueError(f"made for {len(self.species)} atoms ({self.formula}), got {count}")

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Refuse atomic numbers that are not those of the file, in its order."""
        if len(species) != len(self.species):
            raise ValueError(f"made for {len(self.species)} atoms ({self.formula}), got {len(species)}")
        for atom in range(len(species)):
            if species[atom] != self.species[atom]:
                raise ValueError(
                    f"atom {atom} has the atomic number {species[atom]}, the file was made with "
                    f"{self.species[atom]} ({self.symbols[atom]}) there: put the atoms in the order of the file"
                )


class ConservativeMember(nn.Module):
    """Energies, forces and virials of structures from edge vectors, by differentiation."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (S,), forces (N, 3) and virials (S, 3, 3)."""
        vectors = edge_vectors.detach().requires_grad_(True)
        energies = self.potential.energies_of_edges(species, edges, vectors, structure_index, n_structures)
        gradient = torch.autograd.grad([energies.sum()], [vectors])[0]
        assert gradient is not None
        atoms = gradient.new_zeros((species.shape[0], 3))
        forces = atoms.index_add(0, edges[0], gradient).index_add(0, edges[1], -gradient)
        products = (edge_vectors.unsqueeze(2) * gradient.unsqueeze(1)).view(-1, 9)
        of_atoms = gradient.new_zeros((species.shape[0], 9)).index_add(0, edges[0], products)
        sums = energies.detach().new_zeros((n_structures, 9))
        virials = -sums.index_add(0, structure_index, of_atoms.to(sums.dtype)).view(-1, 3, 3)
        return energies.detach(), forces, virials


class DirectMember(nn.Module):
    """Energies and forces of a network with a force head; its virials are NaN."""

    def __init__(self, potential: DirectPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (S,), forces (N, 3) and virials (S, 3, 3)."""
        energies, forces = self.potential.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures
        )
        return energies, forces, energies.new_full((n_structures, 3, 3), float("nan"))


class EdgesCore(nn.Module):
    """All members on given edges."""

    known: Tensor

    def __init__(self, potentials: list[Potential], dtype: torch.dtype) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            DirectMember(potential) if isinstance(potential, DirectPotential) else ConservativeMember(potential)
            for potential in potentials
        )
        self.dtype = dtype
        known = torch.zeros(len(potentials[0].reference_energies), dtype=torch.bool)
        known[potentials[0].elements] = True
        self.register_buffer("known", known)

    def forward(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (M, S), forces (M, N, 3) and virials (M, S, 3, 3) in eV and angstrom."""
        if not bool(self.known[species].all()):
            raise ValueError("an element of this structure is not among those the potential was made for")
        vectors = edge_vectors.to(self.dtype)
        energies: list[Tensor] = []
        forces: list[Tensor] = []
        virials: list[Tensor] = []
        for member in self.members:
            energy, force, virial = member(species, edges, vectors, structure_index, n_structures)
            energies.append(energy)
            forces.append(force)
            virials.append(virial)
        return torch.stack(energies), torch.stack(forces), torch.stack(virials)


class GeneralForm(nn.Module):
    """The form for any molecule, cell, slab or wire of the elements of the model, in eV and angstrom."""

    def __init__(self, core: EdgesCore, cutoff: float) -> None:
        super().__init__()
        self.core = core
        self.search = NeighborSearch(cutoff)

    def forward(
        self, species: Tensor, positions: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Species (N,), positions (N, 3), cell (3, 3) in rows, pbc (3,) to energy (), forces (N, 3), virial (3, 3).

        For an ensemble these are means, and ``forces_std`` (N, 3) is the standard deviation over its members.
        """
        if species.dim() != 1 or positions.dim() != 2 or positions.size(0) != species.size(0) or positions.size(1) != 3:
            raise ValueError(f"positions of shape {positions.size()}, but species of shape {species.size()}")
        positions = positions.detach().to(torch.float64)
        if cell is not None:
            cell = cell.detach().to(torch.float64)
        edges, vectors = self.search(positions, cell, pbc)
        energies, forces, virials = self.core(species, edges, vectors, torch.zeros_like(species), 1)
        # Positions and cells that are not finite have no edges: the atoms must not look like ones at rest.
        lost = 0.0 * positions
        total = lost.sum() if cell is None else lost.sum() + 0.0 * cell.sum()
        results = {
            "energy": energies[:, 0].mean(0) + total,
            "forces": forces.mean(0) + lost,
            "virial": virials[:, 0].mean(0) + total,
        }
        if forces.shape[0] > 1:
            results["forces_std"] = forces.std(0)
        return results

    @torch.jit.export
    def of_edges(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the results of each member for S structures with given edges; see `EdgesCore`."""
        energies, forces, virials = self.core(species, edges, edge_vectors, structure_index, n_structures)
        return energies, forces, virials


class OpenMMForm(nn.Module):
    """The form for one system of fixed species, molecule or periodic box, in nm and kJ/mol."""

    numbers: Tensor

    def __init__(self, general: GeneralForm, species: list[int]) -> None:
        super().__init__()
        self.general = general
        self.atoms = FixedAtoms(species)
        self.length = NANOMETER
        self.energy = 1.0 / KJ_PER_MOL
        self.force = NANOMETER / KJ_PER_MOL
        self.register_buffer("numbers", torch.tensor(species))

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) and box vectors (3, 3) in nm -> energy () in kJ/mol and forces (N, 3) in kJ/mol/nm."""
        self.atoms(positions)
        cell = None if box is None else box.to(torch.float64) * self.length
        results = self.general(self.numbers, positions.to(torch.float64) * self.length, cell)
        return results["energy"] * self.energy, (results["forces"] * self.force).to(positions.dtype)

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Refuse atomic numbers that are not those of the file, in its order."""
        self.atoms.check_order(species)

    @torch.jit.export
    def of_edges(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the results of each member; see `GeneralForm.of_edges`."""
        energies, forces, virials = self.general.of_edges(species, edges, edge_vectors, structure_index, n_structures)
        return energies, forces, virials


class MinimumImages(nn.Module):
    """Pair vectors of a molecule; in a periodic box those of the nearest images."""

    first: Tensor
    second: Tensor

    def __init__(self, edges: Tensor, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("first", edges[0].clone())
        self.register_buffer("second", edges[1].clone())

    def forward(self, positions: Tensor, cell: Tensor | None) -> Tensor:
        """Positions (N, 3) and cell (3, 3) to (P, 3), all float64."""
        vectors = positions.index_select(0, self.second) - positions.index_select(0, self.first)
        if cell is not None:
            reciprocal = torch.linalg.inv(cell)
            # Columns of the inverse are as long as one over the heights of the cell. In a box that is too narrow all
            # results are NaN: an error inside TorchForce would end the process.
            narrow = (reciprocal * reciprocal).sum(0).max() * (4.0 * self.cutoff * self.cutoff) > 1.0
            vectors = vectors.masked_fill(narrow, float("nan"))
            vectors = vectors - torch.round(vectors.matmul(reciprocal)).matmul(cell)
        return vectors


class MoleculeForm(nn.Module):
    """The form for one molecule of fixed species, with all its pairs in one graph."""

    def __init__(
        self,
        graph: torch.jit.ScriptModule,
        images: MinimumImages,
        dtype: torch.dtype,
        members: int,
        species: list[int],
        copies: int = 1,
    ) -> None:
        super().__init__()
        self.atoms = FixedAtoms(species * copies, copies)
        self.graph = graph
        self.images = images
        self.dtype = dtype
        self.members = members
        self.length = NANOMETER
        self.energy = 1.0 / KJ_PER_MOL
        self.force = NANOMETER / KJ_PER_MOL

    @torch.jit.export
    def evaluate(self, positions: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) and cell (3, 3), float64, angstrom -> energies (M,) in eV and forces (M, N, 3) in eV/A."""
        self.atoms(positions)
        energies, forces = self.graph(self.images(positions, cell).to(self.dtype))
        return energies[:, 0], forces

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Refuse atomic numbers that are not those of the file, in its order."""
        self.atoms.check_order(species)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) and box vectors (3, 3) in nm -> energy () in kJ/mol and forces (N, 3) in kJ/mol/nm."""
        with torch.no_grad():
            cell = None if box is None else box.to(torch.float64) * self.length
            energies, forces = self.evaluate(positions.to(torch.float64) * self.length, cell)
            if self.members == 1:
                energy, force = energies[0], forces[0]
            else:
                energy, force = energies.mean(0), forces.mean(0)
            return energy * self.energy, (force * self.force).to(positions.dtype)


class CopiesForm(MoleculeForm):
    """The form for R copies of one molecule, which do not interact, in one graph."""

    def __init__(
        self,
        graph: torch.jit.ScriptModule,
        images: MinimumImages,
        dtype: torch.dtype,
        members: int,
        species: list[int],
        copies: int,
    ) -> None:
        super().__init__(graph, images, dtype, members, species, copies)
        self.copies = copies

    @torch.jit.export
    def evaluate(self, positions: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (R n, 3), copy after copy, and cell (3, 3), float64, A -> energies (M, R), forces (M, R n, 3)."""
        self.atoms(positions)
        energies, forces = self.graph(self.images(positions, cell).to(self.dtype))
        return energies, copy_after_copy(forces, self.copies)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (R n, 3) and box (3, 3) in nm -> energy of all () in kJ/mol and forces (R n, 3) in kJ/mol/nm."""
        with torch.no_grad():
            cell = None if box is None else box.to(torch.float64) * self.length
            energies, forces = self.evaluate(positions.to(torch.float64) * self.length, cell)
            energy = energies.mean(0).sum() * self.energy
            return energy, (forces.mean(0) * self.force).to(positions.dtype)


def copy_after_copy(forces: Tensor, copies: int) -> Tensor:
    """Reorder forces (M, n R, 3), atom after atom, to (M, R n, 3), copy after copy."""
    if copies == 1:
        return forces
    return forces.view(forces.shape[0], -1, copies, 3).transpose(1, 2).reshape(forces.shape)


def pair_edges(pairs: MoleculePairs) -> Tensor:
    """Return the edges (2, P) of the pairs, in their order, for atoms in the order copy after copy."""
    edges = pairs.pair_edges()
    if pairs.copies == 1:
        return edges
    return edges % pairs.copies * pairs.n_atoms + edges // pairs.copies
