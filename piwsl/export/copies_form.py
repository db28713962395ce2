"""The module that is scripted for copies of one molecule: atoms copy after copy outside, atom-major in the graph."""

import torch
from torch import Tensor

from piwsl.export.forms import MinimumImages, MoleculeForm
from piwsl.models.molecule_pairs import MoleculePairs


class CopiesForm(MoleculeForm):
    """Energies and forces of R copies of one molecule that do not see each other, in one graph."""

    def __init__(
        self, graph: torch.jit.ScriptModule, images: MinimumImages, dtype: torch.dtype, members: int, copies: int
    ) -> None:
        super().__init__(graph, images, dtype, members)
        self.copies = copies

    @torch.jit.export
    def evaluate(self, positions: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (R n, 3), copy after copy, and cell (3, 3), float64, A -> energies (M, R), forces (M, R n, 3)."""
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
    """Forces (M, n R, 3), atom after atom, to (M, R n, 3), copy after copy."""
    if copies == 1:
        return forces
    return forces.view(forces.shape[0], -1, copies, 3).transpose(1, 2).reshape(forces.shape)


def pair_edges(pairs: MoleculePairs) -> Tensor:
    """Edges (2, P) of the pairs, in their order, between atoms that stand copy after copy."""
    edges = pairs.pair_edges()
    if pairs.copies == 1:
        return edges
    return edges % pairs.copies * pairs.n_atoms + edges // pairs.copies
