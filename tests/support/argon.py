"""An analytic potential as an exported file for crystals: Lennard-Jones argon, smooth and quick."""

from pathlib import Path

import torch
from torch import Tensor, nn

from piwsl.export.exported_file import save_exported
from piwsl.export.forms.scripted import EdgesCore, GeneralForm
from piwsl.export.verify import carried_structures, eager, expectations
from piwsl.models.potential import Potential
from tests.support.molecules import cell

CUTOFF = 6.0


class LennardJones(nn.Module):
    """Argon, brought to zero at the cutoff with two continuous derivatives."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor) -> Tensor:
        squares = edge_vectors.square().sum(1)
        sixth = (3.4 * 3.4 / squares) ** 3
        x = (squares.sqrt() / self.cutoff).clamp(max=1.0)
        switch = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
        halves = 2.0 * 0.0104 * (sixth * sixth - sixth) * switch
        return torch.zeros(species.shape[0], dtype=halves.dtype, device=halves.device).index_add(0, edges[0], halves)


def argon_model(path: Path) -> Path:
    """Write an exported file of argon, float64."""
    potential = Potential(LennardJones(CUTOFF), [18], [0.0])
    exact = eager([potential], CUTOFF)
    info = {
        "target": "general",
        "pairs": "edges",
        "format_of_program": "torchscript",
        "members": 1,
        "elements": [18],
        "cutoff": CUTOFF,
        "dtype": "float64",
        "stress": True,
        "check": carried_structures(expectations([cell()], exact, exact)),
    }
    save_exported(torch.jit.script(GeneralForm(EdgesCore([potential], torch.float64), CUTOFF)), info, path)
    return path
