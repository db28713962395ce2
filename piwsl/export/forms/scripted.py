"""Scripted modules, which contain a potential and everything that an engine requires.

Only these classes, `NeighborSearch`, `Potential` and the networks are restricted to features that TorchScript supports.
In all shapes, M is the number of members of an ensemble, or 1 for a single model.
"""

from collections.abc import Sequence
from typing import Final

import torch
from ase.data import chemical_symbols
from ase.symbols import Symbols
from torch import Tensor, nn

from piwsl.export.neighbors.search import NeighborSearch
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import DirectPotential, Potential
from piwsl.units import KJ_PER_MOL, NANOMETER


class FixedAtoms(nn.Module):
    """Fixed atoms of a form, and the checks of inputs that all forms share.

    Args:
        species: Atomic numbers of all atoms, ordered copy after copy.
        copies: Number of copies of a molecule.
    """

    def __init__(self, species: list[int], copies: int = 1) -> None:
        super().__init__()
        self.species = list(species)
        self.symbols = [chemical_symbols[number] for number in species]
        formula = str(Symbols(species[: len(species) // copies]).get_chemical_formula("hill"))
        self.formula = formula if copies == 1 else f"{copies} copies of {formula}"

    def forward(self, positions: Tensor) -> None:
        """Raise an error for another number of atoms, for which results would be wrong or uninitialized."""
        if positions.dim() != 2 or positions.size(0) != len(self.species) or positions.size(1) != 3:
            count = positions.size(0) if positions.dim() > 0 else 0
            raise ValueError(f"made for {len(self.species)} atoms ({self.formula}), got {count}")

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Raise an error if the atomic numbers or their order differ from the file."""
        if len(species) != len(self.species):
            raise ValueError(f"made for {len(self.species)} atoms ({self.formula}), got {len(species)}")
        for atom in range(len(species)):
            if species[atom] != self.species[atom]:
                raise ValueError(
                    f"atom {atom} has the atomic number {species[atom]}, but the file was made with "
                    f"{self.species[atom]} ({self.symbols[atom]}): put the atoms in the order of the file"
                )


class ConservativeMember(nn.Module):
    """Member that computes forces and virials as derivatives of the energy with respect to edge vectors."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self,
        species: Tensor,
        edges: Tensor,
        edge_vectors: Tensor,
        structure_index: Tensor,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies (S,), forces (N, 3) and virials (S, 3, 3)."""
        vectors = edge_vectors.detach().requires_grad_(True)
        energies = self.potential.energies_of_edges(species, edges, vectors, structure_index, n_structures, charge_spin)
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
    """Member with a force head. Its virials are NaN."""

    def __init__(self, potential: DirectPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self,
        species: Tensor,
        edges: Tensor,
        edge_vectors: Tensor,
        structure_index: Tensor,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies (S,), forces (N, 3) and virials (S, 3, 3)."""
        energies, forces = self.potential.energies_and_forces_of_edges(
            species, edges, edge_vectors, structure_index, n_structures, charge_spin
        )
        return energies, forces, energies.new_full((n_structures, 3, 3), float("nan"))


class EdgesCore(nn.Module):
    """Evaluation of all members with given edges.

    Args:
        potentials: Potentials of the members.
        dtype: Float type of the networks.
        molecule: Atomic numbers of the only molecule that the walls support; None without such walls.
    """

    known: Tensor
    molecule: Tensor
    takes_charge: Final[bool]

    def __init__(self, potentials: list[Potential], dtype: torch.dtype, molecule: Sequence[int] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            DirectMember(potential) if isinstance(potential, DirectPotential) else ConservativeMember(potential)
            for potential in potentials
        )
        self.dtype = dtype
        self.takes_charge = potentials[0].takes_charge
        known = torch.zeros(len(potentials[0].reference_energies), dtype=torch.bool)
        known[potentials[0].elements] = True
        self.register_buffer("known", known)
        self.register_buffer("molecule", torch.tensor([] if molecule is None else list(molecule), dtype=torch.int64))

    def forward(
        self,
        species: Tensor,
        edges: Tensor,
        edge_vectors: Tensor,
        structure_index: Tensor,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies (M, S), forces (M, N, 3) and virials (M, S, 3, 3) in eV and angstrom.

        ``charge_spin`` (S, 2) contains charges and numbers of unpaired electrons, see `Potential.energies`.
        """
        if not bool(self.known[species].all()):
            raise ValueError("the structure contains an element that the potential was not trained on")
        if self.molecule.size(0) > 0 and not torch.equal(species, self.molecule.repeat(n_structures)):
            raise ValueError("the potential has walls for one molecule, and the atoms are others or in another order")
        vectors = edge_vectors.to(self.dtype)
        energies: list[Tensor] = []
        forces: list[Tensor] = []
        virials: list[Tensor] = []
        for member in self.members:
            energy, force, virial = member(species, edges, vectors, structure_index, n_structures, charge_spin)
            energies.append(energy)
            forces.append(force)
            virials.append(virial)
        return torch.stack(energies), torch.stack(forces), torch.stack(virials)


class GeneralForm(nn.Module):
    """Form for any molecule, crystal, slab or wire of the elements of the model, in eV and angstrom."""

    def __init__(self, core: EdgesCore, cutoff: float) -> None:
        super().__init__()
        self.core = core
        self.search = NeighborSearch(cutoff)

    def forward(
        self,
        species: Tensor,
        positions: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        charge: float | None = None,
        unpaired_electrons: float | None = None,
    ) -> dict[str, Tensor]:
        """Map species (N,), positions (N, 3), cell (3, 3) and pbc (3,) to energy (), forces (N, 3) and virial (3, 3).

        The lattice vectors are the rows of the cell. For an ensemble, the results are means, and ``forces_std`` (N, 3)
        is the standard deviation over the members. The total charge (e) and the number of unpaired electrons are inputs
        of networks that take them; None selects the defaults of the model.
        """
        if species.dim() != 1 or positions.dim() != 2 or positions.size(0) != species.size(0) or positions.size(1) != 3:
            raise ValueError(f"positions of shape {positions.size()}, but species of shape {species.size()}")
        positions = positions.detach().to(torch.float64)
        if cell is not None:
            cell = cell.detach().to(torch.float64)
            if self.core.molecule.size(0) > 0 and (pbc is None or bool(pbc.any())):
                raise ValueError("the potential has walls for one molecule, which must not be periodic")
        edges, vectors = self.search(positions, cell, pbc)
        charge_spin = self.states(charge, unpaired_electrons)
        energies, forces, virials = self.core(species, edges, vectors, torch.zeros_like(species), 1, charge_spin)
        # Positions or cells that are not finite have no edges. The results must be NaN, not those of free atoms.
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

    def states(self, charge: float | None, unpaired_electrons: float | None) -> Tensor | None:
        """Return the charge and the number of unpaired electrons (1, 2) of a structure, NaN for None."""
        if charge is None and unpaired_electrons is None:
            return None
        charge = float("nan") if charge is None else charge
        unpaired = float("nan") if unpaired_electrons is None else unpaired_electrons
        # Comparisons with NaN are false.
        if not self.core.takes_charge and (abs(charge) > 0.0 or abs(unpaired) > 0.0):
            raise ValueError("the network of this file ignores the charge and the spin of a structure: omit them")
        return torch.tensor([[charge, unpaired]], dtype=torch.float64, device=self.core.known.device)

    @torch.jit.export
    def of_edges(
        self,
        species: Tensor,
        edges: Tensor,
        edge_vectors: Tensor,
        structure_index: Tensor,
        n_structures: int,
        charge_spin: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the results of each member for S structures with given edges, see `EdgesCore`."""
        energies, forces, virials = self.core(species, edges, edge_vectors, structure_index, n_structures, charge_spin)
        return energies, forces, virials


class OpenMMForm(nn.Module):
    """Form for a molecule or periodic box with fixed species, in nm and kJ/mol."""

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
        """Map positions (N, 3) and box vectors (3, 3) to the energy () and forces (N, 3), in nm and kJ/mol."""
        self.atoms(positions)
        cell = None if box is None else box.to(torch.float64) * self.length
        results = self.general(self.numbers, positions.to(torch.float64) * self.length, cell)
        return results["energy"] * self.energy, (results["forces"] * self.force).to(positions.dtype)

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Raise an error if the atomic numbers or their order differ from the file."""
        self.atoms.check_order(species)

    @torch.jit.export
    def of_edges(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the results of each member, see `GeneralForm.of_edges`."""
        energies, forces, virials = self.general.of_edges(species, edges, edge_vectors, structure_index, n_structures)
        return energies, forces, virials


class MinimumImages(nn.Module):
    """Pair vectors of a molecule, which are minimum images in a periodic box."""

    first: Tensor
    second: Tensor

    def __init__(self, edges: Tensor, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("first", edges[0].clone())
        self.register_buffer("second", edges[1].clone())

    def forward(self, positions: Tensor, cell: Tensor | None) -> Tensor:
        """Map positions (N, 3) and the cell (3, 3) to pair vectors (P, 3), all float64."""
        vectors = positions.index_select(0, self.second) - positions.index_select(0, self.first)
        if cell is not None:
            reciprocal = torch.linalg.inv(cell)
            # The norms of the columns of the inverse are the reciprocal heights of the cell. In narrow boxes, all
            # results are NaN, because an error inside TorchForce would abort the process.
            narrow = (reciprocal * reciprocal).sum(0).max() * (4.0 * self.cutoff * self.cutoff) > 1.0
            vectors = vectors.masked_fill(narrow, float("nan"))
            vectors = vectors - torch.round(vectors.matmul(reciprocal)).matmul(cell)
        return vectors


class MoleculeForm(nn.Module):
    """Form for a molecule with fixed species and a graph of all pairs."""

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
        """Map positions (N, 3) and the cell (3, 3), float64, to energies (M,) and forces (M, N, 3), eV and angstrom."""
        self.atoms(positions)
        energies, forces = self.graph(self.images(positions, cell).to(self.dtype))
        return energies[:, 0], forces

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        """Raise an error if the atomic numbers or their order differ from the file."""
        self.atoms.check_order(species)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map positions (N, 3) and box vectors (3, 3) to the energy () and forces (N, 3), in nm and kJ/mol."""
        with torch.no_grad():
            cell = None if box is None else box.to(torch.float64) * self.length
            energies, forces = self.evaluate(positions.to(torch.float64) * self.length, cell)
            if self.members == 1:
                energy, force = energies[0], forces[0]
            else:
                energy, force = energies.mean(0), forces.mean(0)
            return energy * self.energy, (force * self.force).to(positions.dtype)


class CopiesForm(MoleculeForm):
    """Form for R non-interacting copies of a molecule in one graph."""

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
        """Map positions (R n, 3) and the cell (3, 3), float64, to energies (M, R) and forces (M, R n, 3).

        Atoms are ordered copy after copy. Units are eV and angstrom.
        """
        self.atoms(positions)
        energies, forces = self.graph(self.images(positions, cell).to(self.dtype))
        return energies, copy_after_copy(forces, self.copies)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map positions (R n, 3) and box vectors (3, 3) to the total energy () and forces (R n, 3), nm and kJ/mol."""
        with torch.no_grad():
            cell = None if box is None else box.to(torch.float64) * self.length
            energies, forces = self.evaluate(positions.to(torch.float64) * self.length, cell)
            energy = energies.mean(0).sum() * self.energy
            return energy, (forces.mean(0) * self.force).to(positions.dtype)


def copy_after_copy(forces: Tensor, copies: int) -> Tensor:
    """Return forces (M, n R, 3), ordered atom after atom, as (M, R n, 3), ordered copy after copy."""
    if copies == 1:
        return forces
    return forces.view(forces.shape[0], -1, copies, 3).transpose(1, 2).reshape(forces.shape)


def pair_edges(pairs: MoleculePairs) -> Tensor:
    """Return the edges (2, P) of the pairs for atoms that are ordered copy after copy."""
    edges = pairs.pair_edges()
    if pairs.copies == 1:
        return edges
    return edges % pairs.copies * pairs.n_atoms + edges // pairs.copies
