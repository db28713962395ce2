"""A TorchScript potential that acts on some particles of a System: TorchForce hands over all of them."""

import torch
from torch import Tensor, nn


class Subset(nn.Module):
    """The OpenMM form on chosen particles; all others feel no force."""

    indices: Tensor

    def __init__(self, form: nn.Module, indices: Tensor) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("indices", indices)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) of all particles in nm -> energy () in kJ/mol and forces (N, 3) in kJ/mol/nm."""
        energy, forces = self.form(positions.index_select(0, self.indices), box)
        return energy, torch.zeros_like(positions).index_copy(0, self.indices, forces)
