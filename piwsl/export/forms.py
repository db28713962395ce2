"""The modules that are scripted: a potential with everything an engine needs around it.

These classes, `Potential` and the networks are the only code that TorchScript limits.
"""

import torch
from torch import Tensor, nn

from piwsl.data.neighbours import all_pairs
from piwsl.models.potential import Potential
from piwsl.units import KJ_PER_MOL, NANOMETER


class GeneralForm(nn.Module):
    """Energy and forces of any molecule or cell of known elements, in eV and angstrom."""

    known: Tensor

    def __init__(self, potential: Potential, cutoff: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.potential = potential
        self.cutoff = cutoff
        self.dtype = dtype
        known = torch.zeros(len(potential.reference_energies), dtype=torch.bool)
        known[potential.elements] = True
        self.register_buffer("known", known)

    def images(self, cell: Tensor) -> Tensor:
        """Integer lattice translations (K, 3) whose cells can hold a neighbour within the cutoff."""
        volume = torch.linalg.det(cell).abs()
        normals = torch.stack(
            [
                torch.linalg.cross(cell[1], cell[2]),
                torch.linalg.cross(cell[2], cell[0]),
                torch.linalg.cross(cell[0], cell[1]),
            ]
        )
        heights = volume / torch.linalg.vector_norm(normals, dim=-1)
        # Atoms may lie outside the cell by any amount: callers wrap them first, then one more layer is enough.
        reach = torch.ceil(self.cutoff / heights).to(torch.int64) + 1
        a, b, c = int(reach[0]), int(reach[1]), int(reach[2])
        return torch.cartesian_prod(
            torch.arange(-a, a + 1, device=cell.device),
            torch.arange(-b, b + 1, device=cell.device),
            torch.arange(-c, c + 1, device=cell.device),
        )

    def edges(self, positions: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        """Edges (2, E) within the cutoff and their shifts (E, 3) in angstrom."""
        n_atoms = positions.shape[0]
        if cell is None:
            shifts = positions.new_zeros((1, 3))
            home = 0
        else:
            images = self.images(cell)
            shifts = images.to(cell.dtype).matmul(cell)
            home = int(torch.nonzero((images == 0).all(1))[0])
        vectors = positions.view(1, 1, -1, 3) - positions.view(1, -1, 1, 3) + shifts.view(-1, 1, 1, 3)
        close = (vectors * vectors).sum(-1) < self.cutoff * self.cutoff
        close[home] = close[home] & ~torch.eye(n_atoms, dtype=torch.bool, device=positions.device)
        found = torch.nonzero(close)
        return found[:, 1:].transpose(0, 1).contiguous(), shifts[found[:, 0]]

    def wrap(self, positions: Tensor, cell: Tensor) -> Tensor:
        """Positions moved into the cell by whole lattice vectors."""
        return positions - torch.floor(positions.matmul(torch.linalg.inv(cell))).matmul(cell)

    def forward(self, species: Tensor, positions: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Species (N,) and positions (N, 3), cell (3, 3) in rows -> energy (), float64, and forces (N, 3)."""
        if not bool(self.known[species].all()):
            raise ValueError("an element of this structure is not among those the potential was made for")
        positions = positions.detach().to(torch.float64)
        if cell is not None:
            cell = cell.detach().to(torch.float64)
            positions = self.wrap(positions, cell)
        edges, shifts = self.edges(positions, cell)
        positions = (positions - positions.mean(0)).to(self.dtype)
        index = torch.zeros_like(species)
        energies, forces = self.potential(species, positions, edges, shifts.to(self.dtype), index, 1)
        return energies[0].detach(), forces


class OpenMMForm(nn.Module):
    """Energy and forces of one molecule with its species baked in, in nm and kJ/mol."""

    species: Tensor
    edges: Tensor
    edge_shifts: Tensor
    structure_index: Tensor

    def __init__(self, potential: Potential, species: list[int], cutoff: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.potential = potential
        self.dtype = dtype
        self.length = NANOMETER
        self.energy = 1.0 / KJ_PER_MOL
        self.force = NANOMETER / KJ_PER_MOL
        pairs = all_pairs(len(species), cutoff)
        self.register_buffer("species", torch.tensor(species))
        self.register_buffer("edges", torch.from_numpy(pairs.edges))
        self.register_buffer("edge_shifts", torch.from_numpy(pairs.shifts).to(dtype))
        self.register_buffer("structure_index", torch.zeros(len(species), dtype=torch.int64))

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) in nm -> energy () in kJ/mol and forces (N, 3) in kJ/mol/nm."""
        # A molecule may have drifted far from the origin: centre it before single precision sees it.
        local = positions.detach() - positions.detach().mean(0)
        local = (local * self.length).to(self.dtype)
        energies, forces = self.potential(self.species, local, self.edges, self.edge_shifts, self.structure_index, 1)
        return energies[0].detach() * self.energy, (forces * self.force).to(positions.dtype)
